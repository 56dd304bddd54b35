"""A real SMTP server on loopback that keeps what it receives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from typing import Any

from aiosmtpd.controller import Controller

from quickstart.stack import free_port


class Inbox:
    """What a mail server has received."""

    def __init__(self) -> None:
        self.messages: list[tuple[list[str], Message]] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802  (aiosmtpd's name)
        self.messages.append((envelope.rcpt_tos, message_from_bytes(envelope.content)))
        return "250 OK"

    @property
    def subjects(self) -> list[str]:
        return [str(message["Subject"]) for _, message in self.messages]


def body(message: Message) -> str:
    parts = [part.get_payload(decode=True) for part in message.walk() if not part.is_multipart()]
    return b"".join(part for part in parts if isinstance(part, bytes)).decode()


@contextmanager
def mail_server() -> Iterator[tuple[Inbox, dict[str, Any]]]:
    """An inbox, and the fields of an Airflow connection that sends to it."""
    inbox, port = Inbox(), free_port()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    extra = {"from_email": "airflow@example.com", "disable_ssl": True, "disable_tls": True}
    try:
        yield inbox, {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}
    finally:
        controller.stop()
