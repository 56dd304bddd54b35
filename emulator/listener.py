"""The HTTPS listener on uvicorn: says when it is ready, and leaves no connection open when it ends."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .app import Server, build
from .certificates import Certificates
from .injector import TRANSPORT, Application


class _Protocol(HttpToolsProtocol):
    """uvicorn's protocol, which also shows the application its transport (a fault may cut the connection)."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions: dict[str, Any] = {TRANSPORT: self.transport}
        self.scope["extensions"] = extensions


class Listener(uvicorn.Server):
    """A bound server.

    Args:
        config: uvicorn's configuration.
        listening: The bound socket.
    """

    def __init__(self, config: uvicorn.Config, listening: socket.socket) -> None:
        super().__init__(config)
        self._listening = listening
        self.on_ready: Callable[[], object] = bool

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start serving, then call `on_ready`."""
        await super().startup(sockets)
        self.on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop serving; connections whose client does not hang up are cut."""
        await self._cut_connections()
        await super().shutdown(sockets)
        await self._cut_connections()

    async def _cut_connections(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        for _ in range(20):
            if not self.server_state.connections:
                break
            await asyncio.sleep(0.005)

    async def main_loop(self) -> None:
        """As uvicorn's, but it looks five times as often whether to stop: tests start and stop many servers."""
        ticks = 0
        while not await self.on_tick(ticks // 5):
            ticks += 1
            await asyncio.sleep(0.02)

    def serve_until_stopped(self) -> None:
        """Serve in this thread until a signal or `should_exit`."""
        try:
            self.run(sockets=[self._listening])
        finally:
            self._listening.close()


def listen(server: Server, certificates: Certificates, port: int) -> Listener:
    """Bind a loopback port (0: a free one) and set `server.base`; nothing is served yet.

    Raises:
        OSError: The port is taken.
    """
    listening, server.base = bind(port)
    return listener_for(build(server), listening, certificates)


def bind(port: int) -> tuple[socket.socket, str]:
    """A bound loopback socket (port 0: a free one) and the address it will serve.

    Raises:
        OSError: The port is taken.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("127.0.0.1", port))
    return listening, f"https://localhost:{listening.getsockname()[1]}"


def listener_for(application: Application, listening: socket.socket, certificates: Certificates) -> Listener:
    """A listener that will serve an application on a bound socket."""
    config = uvicorn.Config(
        application,
        ssl_certfile=str(certificates.server),
        ssl_keyfile=str(certificates.server),
        http=_Protocol,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=2,
        timeout_keep_alive=30,
    )
    return Listener(config, listening)


@contextmanager
def in_thread(served: Listener, name: str) -> Iterator[None]:
    """Serve in a thread of this process as long as the block runs.

    Raises:
        RuntimeError: It did not start.
    """
    started = threading.Event()
    served.on_ready = started.set
    thread = threading.Thread(target=served.serve_until_stopped, name=name, daemon=True)
    thread.start()
    try:
        if not started.wait(30):
            raise RuntimeError("the stand-in did not start within 30 s")
        yield
    finally:
        served.should_exit = True
        thread.join(10)
