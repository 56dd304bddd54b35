"""The ASGI layer around the application that plays the faults."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from .faults import CHANGES_BODY, STATUS_TEXT, THROTTLES, Faults, Rule, changed_body

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
TRANSPORT = "emulator.transport"


class FaultInjector:
    """Wraps an ASGI application; each request may meet one fault."""

    def __init__(self, app: Application, faults: Faults) -> None:
        self.app, self.faults = app, faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event."""
        rule = self.faults.choose(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if rule is None:
            await self.app(scope, receive, send)
        elif rule.action == "slow":
            await asyncio.sleep(float(rule.settings.get("seconds", 1)))
            await self.app(scope, receive, send)
        elif rule.action == "reset":
            cut(scope["extensions"][TRANSPORT], reset=True)
        elif rule.action in CHANGES_BODY:
            await self._changed(rule, scope, receive, send)
        else:
            await _respond(send, *_answer(rule))

    async def _changed(self, rule: Rule, scope: Scope, receive: Receive, send: Send) -> None:
        start: Message = {}
        parts: list[bytes] = []

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                parts.append(message.get("body", b""))

        await self.app(scope, receive, collect)
        body = b"".join(parts)
        headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
        if rule.action != "truncate":
            await _respond(send, start["status"], headers, changed_body(rule, scope["path"], body))
            return
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": start["status"], "headers": headers})
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        cut(scope["extensions"][TRANSPORT], reset=False)


def _answer(rule: Rule) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    json_type = (b"content-type", b"application/json; odata.metadata=minimal")
    html_type = (b"content-type", b"text/html; charset=utf-8")
    settings = rule.settings
    retry = [(b"retry-after", str(settings["retry_after"]).encode())] if "retry_after" in settings else []
    if rule.action == "throttle":
        code, message = THROTTLES[settings.get("code", "requests")]
        return 429, [json_type, *(retry or [(b"retry-after", b"1")])], _error(code, message)
    if rule.action == "unauthorized":
        challenge = (b"www-authenticate", b"Bearer error=invalid_token")
        return 401, [json_type, challenge], _error("", "The bearer token is missing, expired or not valid.")
    if rule.action == "html":
        page = b"<!DOCTYPE html><html><head><title>Dynamics 365</title></head><body>Maintenance</body></html>"
        return int(settings.get("status", 200)), [html_type, *retry], page
    if rule.action == "rubbish":
        return 200, [json_type], b'{"@odata.context":"x","value":[{"name":"cut' + bytes([0xC3, 0x28]) + b'"},,]'
    status = int(settings.get("status", 503))
    if status in (502, 503):
        text = STATUS_TEXT[status]
        return status, [html_type, *retry], f"<html><body><h1>{status} {text}</h1></body></html>".encode()
    return status, [json_type, *retry], _error("0x80040216", "An unexpected error occurred.")


def _error(code: str, message: str) -> bytes:
    return json.dumps({"error": {"code": code, "message": message}}).encode()


async def _respond(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    headers = [*headers, (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def cut(transport: asyncio.Transport, *, reset: bool) -> None:
    """Close a connection, or reset it."""
    """Close the connection at once: with a TCP reset, or after what was written has gone out."""
    if not reset:
        transport.close()
        return
    found = transport.get_extra_info("socket")
    if found is not None:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
