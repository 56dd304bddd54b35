"""A Marketo instance over HTTPS whose answers a test writes itself, for what the stand-in would never say."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from emulator.certificates import Certificates
from opportunity_sync.marketo.auth import Credentials

SECRET = "the-client-secret"
TOKEN_PATH = "/identity/oauth/token"
USAGE_PATH = "/rest/v1/stats/usage.json"


@dataclass(frozen=True)
class Request:
    """One request as it arrived."""

    method: str
    path: str
    """With its query."""
    headers: Message
    body: bytes
    port: int
    """Of the connection's other end: tells connections apart."""

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Reply:
    """What to answer; text is sent as it is."""

    body: object
    status: int = 200
    seconds: float = 0
    """To wait before answering."""
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Callable[[Request], object]


@dataclass
class ScriptedMarketo:
    """The running server."""

    url: str
    ca_bundle: str
    answer: Answer
    """Of a REST call: a `Reply`, or the document of an answer with status 200."""
    identity: Answer
    """Of a request for a token."""
    usage: Answer
    """Of a call for the usage."""
    requests: list[Request] = field(default_factory=list)
    open_now: int = 0
    most_open: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def credentials(self) -> Credentials:
        return Credentials(self.url, "the-client-id", SECRET, ca_bundle=self.ca_bundle)

    @property
    def calls(self) -> list[Request]:
        """Without those for tokens."""
        return [request for request in self.requests if not request.path.startswith(TOKEN_PATH)]

    @property
    def token_requests(self) -> list[Request]:
        return [request for request in self.requests if request.path.startswith(TOKEN_PATH)]


def success(result: list[Any] | None = None, **more: Any) -> dict[str, Any]:
    return {"requestId": "e42b#14272d07d78", "success": True, "result": result or [], **more}


def refusal(code: int, message: str = "No") -> dict[str, Any]:
    """Codes come as numbers in quotes."""
    return {
        "requestId": "e42b#14272d07d78",
        "success": False,
        "errors": [{"code": str(code), "message": message}],
    }


def in_turn(*answers: object) -> Answer:
    """One answer after the other; the last one again and again."""
    left = list(answers)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


def used(calls: int) -> dict[str, Any]:
    return success([{"date": "2026-11-22", "total": calls, "users": []}])


def token(number: int = 1, expires_in: float = 3600) -> dict[str, Any]:
    return {
        "access_token": f"token-{number}",
        "token_type": "bearer",
        "expires_in": expires_in,
        "scope": "api@example.com",
    }


@contextmanager
def scripted_marketo(certificates: Certificates) -> Iterator[ScriptedMarketo]:
    """Run one; it refuses everything until its `answer` is set."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Request(self.command, self.path, self.headers, body, self.client_address[1])
            with marketo.lock:
                marketo.requests.append(request)
                marketo.open_now += 1
                marketo.most_open = max(marketo.most_open, marketo.open_now)
            found = {TOKEN_PATH: marketo.identity, USAGE_PATH: marketo.usage}.get(self.path, marketo.answer)(request)
            reply = found if isinstance(found, Reply) else Reply(found)
            time.sleep(reply.seconds)
            content = reply.body.encode() if isinstance(reply.body, str) else json.dumps(reply.body).encode()
            with marketo.lock:
                marketo.open_now -= 1
            self.send_response(reply.status)
            for name, value in {"Content-Length": str(len(content)), **reply.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *args: object) -> None:
            """Stay quiet."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hung up is part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    marketo = ScriptedMarketo(
        url=f"https://localhost:{server.server_address[1]}",
        ca_bundle=str(certificates.ca_bundle),
        answer=lambda request: refusal(610),
        identity=lambda request: token(),
        usage=lambda request: used(0),
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield marketo
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
