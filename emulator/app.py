"""HTTP: routes, the bearer check, service headers, error answers; everything else is plain functions."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import unquote

from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool

from . import control
from .authority import TENANT, Authority, TokenError
from .errors import ApiError
from .faults import Faults
from .injector import FaultInjector
from .organisation import Organisation
from .webapi import SERVICE, Call, Reply, answer

_SHOWN_HEADERS = (
    "prefer",
    "if-match",
    "if-none-match",
    "consistency",
    "odata-version",
    "odata-maxversion",
    "user-agent",
)


@dataclass(frozen=True)
class LoggedRequest:
    """One request as the server saw it: no token, no form, no body.

    Attributes:
        method: HTTP method.
        path: Path, percent-decoded.
        query: Query string exactly as it came.
        headers: The few headers worth asserting on, lower-case names.
    """

    method: str
    path: str
    query: str
    headers: dict[str, str]
    authorized: bool


@dataclass
class Server:
    """What the HTTP layer works on."""

    org: Organisation
    authority: Authority
    base: str = ""
    latency_ms: float = 0
    dop_hint: int | None = 4
    faults: Faults = field(default_factory=Faults)
    requests: deque[LoggedRequest] = field(default_factory=lambda: deque(maxlen=20_000))


Handler = Callable[[Request], Awaitable[Response]]


def build(server: Server) -> FaultInjector:
    """The ASGI application of this server, faults included."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    async def token(request: Request) -> Response:
        form = {str(k): str(v) for k, v in (await request.form()).items()}
        return _authority_answer(
            server, lambda: server.authority.grant(server.base, request.path_params["tenant"], form)
        )

    async def discovery(request: Request) -> Response:
        return _authority_answer(server, lambda: server.authority.discovery(server.base, request.path_params["tenant"]))

    async def user_realm(request: Request) -> Response:
        return _json(
            200,
            {"ver": "1.0", "account_type": "Managed", "domain_name": "example.com", "cloud_instance_name": "localhost"},
        )

    async def controls(request: Request) -> Response:
        body = await request.body()
        status, document = await run_in_threadpool(
            control.answer, server, request.method, request.path_params["path"], body
        )
        return _json(status, document)

    async def web_api(request: Request) -> Response:
        return await _web_api(server, request)

    async def nothing(request: Request) -> Response:
        return _json(
            404, {"error": {"code": "", "message": f"No HTTP resource was found that matches '{request.url.path}'."}}
        )

    everything = ["GET", "POST", "PATCH", "PUT", "DELETE"]
    app.add_route("/_control/{path:path}", controls, methods=everything)
    app.add_route("/common/userrealm/{user}", user_realm, methods=["GET"])
    app.add_route("/{tenant}/v2.0/.well-known/openid-configuration", discovery, methods=["GET"])
    app.add_route("/{tenant}/.well-known/openid-configuration", discovery, methods=["GET"])
    app.add_route("/{tenant}/oauth2/v2.0/token", token, methods=["POST"])
    app.add_route(SERVICE + "{path:path}", web_api, methods=everything)
    app.add_route("/{path:path}", nothing, methods=everything)
    return FaultInjector(app, server.faults)


def _json(status: int, document: object, headers: dict[str, str] | None = None) -> Response:
    return Response(json.dumps(document), status, headers, media_type="application/json; charset=utf-8")


def _authority_answer(server: Server, make: Callable[[], dict[str, object]]) -> Response:
    try:
        return _json(200, make())
    except TokenError as error:
        return _json(error.status, error.body(server.org.clock))


async def _web_api(server: Server, request: Request) -> Response:
    authorized = server.authority.accepts(server.base, request.headers.get("authorization", ""))
    query = request.scope["query_string"].decode("ascii", "replace")
    path = unquote(request.scope["raw_path"].decode("ascii", "replace").partition("?")[0]).removeprefix(SERVICE)
    shown = {name: request.headers[name] for name in _SHOWN_HEADERS if name in request.headers}
    server.requests.append(LoggedRequest(request.method, SERVICE + path, query, shown, authorized))
    if server.latency_ms:
        await asyncio.sleep(server.latency_ms / 1000)
    if not authorized:
        return _unauthorized(server)
    call = Call(
        request.method,
        path,
        query,
        server.base,
        request.headers.getlist("prefer"),
        request.headers.get("if-match"),
        request.headers.get("if-none-match"),
        await request.body(),
    )
    try:
        reply = await run_in_threadpool(answer, server.org, call)
    except ApiError as error:
        reply = Reply(error.status, json.dumps(error.body()).encode(), error.headers)
    return Response(
        reply.body, reply.status, {**_service_headers(server), **reply.headers}, media_type=reply.content_type
    )


def _unauthorized(server: Server) -> Response:
    challenge = f"Bearer authorization_uri={server.base}/{TENANT}/oauth2/authorize, resource_id={server.base}/"
    body = {"error": {"code": "", "message": "The bearer token is missing, expired or not valid."}}
    return _json(401, body, {**_service_headers(server), "WWW-Authenticate": challenge})


def _service_headers(server: Server) -> dict[str, str]:
    """Headers of every answer. The remaining time carries a thousands comma, as real services send it."""
    request_id = str(uuid.uuid4())
    hint = {} if server.dop_hint is None else {"x-ms-dop-hint": str(server.dop_hint)}
    return {
        "OData-Version": "4.0",
        "x-ms-service-request-id": request_id,
        "REQ_ID": request_id,
        **hint,
        "x-ms-ratelimit-burst-remaining-xrm-requests": "7999",
        "x-ms-ratelimit-time-remaining-xrm-requests": "1,199.97",
        "Cache-Control": "no-cache",
    }
