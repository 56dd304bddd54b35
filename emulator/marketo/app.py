"""HTTP: routes, the token check, limits, faults, answers in Marketo's envelope."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.types import Receive, Scope, Send

from emulator.faults import Faults, Rule
from emulator.injector import TRANSPORT, Application, cut

from . import api, control
from .api import Call, Service
from .errors import HttpError, NotSpokenError, RequestError
from .identity import Identity, IdentityError
from .instance import Instance
from .limits import CountedCall, Counters, Limits

MOST_BODY_BYTES = 1_000_000
MOST_ADDRESS_BYTES = 8192
_POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Exchange:
    """One REST request and its answer, without the token.

    Attributes:
        method: HTTP method as sent.
        path: Address without the query.
        query: Query string.
        content_type: Of the request's body.
        body: The request's body, empty unless bodies are kept.
        status: HTTP status, 0 when the connection was cut.
        answer: The answer's body, empty unless bodies are kept.
        codes: Codes of the errors in the answer.
    """

    method: str
    path: str
    query: str
    content_type: str
    body: bytes
    status: int
    answer: bytes
    codes: tuple[int, ...]


@dataclass
class Server:
    """What the HTTP layer works on.

    Attributes:
        keep_bodies: Whether the log of requests keeps bodies and answers.
    """

    instance: Instance
    identity: Identity
    limits: Limits
    base: str = ""
    latency_ms: float = 0
    keep_bodies: bool = False
    faults: Faults = field(default_factory=Faults)
    counters: Counters = field(default_factory=Counters)
    requests: deque[Exchange] = field(default_factory=lambda: deque(maxlen=20_000))

    def __post_init__(self) -> None:
        self.service = Service(self.instance, self.limits, self.counters)

    def forget(self) -> None:
        """Begin the counters and the log of requests anew."""
        self.counters = self.service.counters = Counters()
        self.requests.clear()


Handler = Callable[[Request], Awaitable[Response]]


def build(server: Server) -> Application:
    """The ASGI application of this server."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    async def token(request: Request) -> Response:
        return await _token(server, request)

    async def controls(request: Request) -> Response:
        status, document = control.answer(server, request.method, request.path_params["path"], await request.body())
        return _json(status, document)

    async def rest(request: Request) -> Response:
        opened = server.limits.arrive()
        try:
            return await _rest(server, request, opened)
        finally:
            server.limits.leave()

    everything = ["GET", "POST", "PATCH", "PUT", "DELETE"]
    app.add_route("/_control/{path:path}", controls, methods=everything)
    app.add_route("/identity/oauth/token", token, methods=["GET", "POST"])
    app.add_route("/{path:path}", rest, methods=everything)
    return app


class _CutOff(Response):
    """No answer, or half of one, and the end of the connection."""

    def __init__(self, *, reset: bool, half_of: Response | None = None) -> None:
        super().__init__()
        self._reset, self._half_of = reset, half_of
        self.status_code = half_of.status_code if half_of else 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send what there is to send, then cut."""
        if self._half_of is not None:
            headers = self._half_of.raw_headers
            body = bytes(self._half_of.body)
            await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        cut(scope["extensions"][TRANSPORT], reset=self._reset)


def _json(status: int, document: object) -> Response:
    return Response(json.dumps(document), status, media_type="application/json;charset=UTF-8")


def _page(status: int, title: str | None = None) -> Response:
    text = f"{status} {title or HTTPStatus(status).phrase}"
    return Response(
        f"<html><head><title>{text}</title></head><body><h1>{text}</h1></body></html>", status, media_type="text/html"
    )


async def _token(server: Server, request: Request) -> Response:
    rule = server.faults.choose(request.method, request.url.path)
    if rule is not None:
        answered = await _before(server, rule)
        if answered is not None:
            return answered
    form = await request.form() if request.method == "POST" else {}
    parameters = {name: str(value) for name, value in [*request.query_params.items(), *form.items()]}
    try:
        return _json(200, server.identity.grant(parameters))
    except IdentityError as error:
        return _json(error.status, error.body())


async def _rest(server: Server, request: Request, opened: int) -> Response:
    """Handle one REST request: fault in front, execution, fault behind, log."""
    path, query = request.url.path, request.scope["query_string"].decode("ascii", "replace")
    method = api.effective_method(request.method, query)
    server.counters.arrived(server.instance.clock.now(), opened)
    server.counters.endpoints[f"{method} {path}"] += 1
    rule = server.faults.choose(method, path)
    body = b""
    codes: tuple[int, ...] = ()
    response = await _before(server, rule) if rule is not None else None
    if response is None:
        body = await request.body()
        response, codes = await _executed(server, request, Call(method, path, query, _type(request), body, rule))
        if rule is not None:
            response = await _behind(rule, request, response)
    kept, answer = (body, bytes(response.body)) if server.keep_bodies else (b"", b"")
    entry = Exchange(request.method, path, query, _type(request), kept, response.status_code, answer, codes)
    server.requests.append(entry)
    return response


def _type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _executed(server: Server, request: Request, call: Call) -> tuple[Response, tuple[int, ...]]:
    """The answer of the API itself, and the codes of its errors."""
    limited: CountedCall | None = None
    envelope: dict[str, Any] = {"requestId": f"{next(_NUMBERS):x}#{time.time_ns() // 1_000_000:x}"}
    try:
        if request.method == "GET" and len(request.scope["raw_path"]) + len(call.query) + 1 > MOST_ADDRESS_BYTES:
            raise HttpError(414, "Request-URI Too Long")
        if len(call.body) > MOST_BODY_BYTES:
            raise HttpError(413, "Request Entity Too Large")
        server.identity.check(request.headers.get("authorization", ""))
        limited = server.limits.admit()
        if server.latency_ms:
            await asyncio.sleep(server.latency_ms / 1000)
        if call.rule is not None and call.rule.action == "error":
            raise RequestError(call.rule.settings["code"], call.rule.settings.get("message"))
        server.counters.writes += call.method == "POST"
        return _json(200, envelope | api.answer(server.service, call) | {"success": True}), ()
    except RequestError as error:
        server.limits.note_error(error.code, limited)
        server.counters.codes[str(error.code)] += 1
        errors = [{"code": str(error.code), "message": error.message}]
        return _json(200, envelope | {"success": False, "errors": errors}), (error.code,)
    except HttpError as error:
        return _page(error.status, error.title), ()
    except NotSpokenError as error:
        errors = [{"code": "501", "message": f"The stand-in does not speak {error}."}]
        return _json(501, envelope | {"success": False, "errors": errors}), ()


async def _before(server: Server, rule: Rule) -> Response | None:
    """Play a fault in front of the API; None: the request goes on."""
    settings = rule.settings
    match rule.action:
        case "slow":
            await asyncio.sleep(float(settings.get("seconds", 1)))
        case "revoke":
            server.identity.revoke()
        case "expire":
            server.identity.expire()
        case "reset":
            return _CutOff(reset=True)
        case "status":
            return _page(int(settings.get("status", 502)))
        case "html":
            return _page(200, "Maintenance")
        case "rubbish":
            return Response(
                b'{"requestId":"1#2","success":true,"result":[{"seq":0,,]', 200, media_type="application/json"
            )
    return None


async def _behind(rule: Rule, request: Request, response: Response) -> Response:
    """Play a fault behind the API: what was asked has been done, but the caller does not learn of it."""
    if rule.action == "truncate":
        return _CutOff(reset=False, half_of=response)
    if rule.action == "short":
        document = json.loads(bytes(response.body))
        document["result"] = document.get("result", [])[:-1]
        return _json(response.status_code, document)
    if rule.action != "lost":
        return response
    match rule.settings.get("how", "reset"):
        case "status":
            return _page(int(rule.settings.get("status", 502)))
        case "html":
            return _page(200, "Maintenance")
        case "silence":
            until = time.monotonic() + float(rule.settings.get("seconds", 60))
            while time.monotonic() < until and not await request.is_disconnected():
                await asyncio.sleep(_POLL_SECONDS)
            return _CutOff(reset=False)
    return _CutOff(reset=True)


_NUMBERS = count(0xE42B)
