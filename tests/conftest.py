"""Fixtures shared by tests that speak to the stand-in."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from emulator.server import Emulator, running
from opportunity_sync.dataverse.auth import Credentials, DataverseAuth
from opportunity_sync.dataverse.client import DataverseClient
from opportunity_sync.lake import Lake
from opportunity_sync.release import Release
from opportunity_sync.settings import Settings
from tests.extraction import Extraction
from tests.small_organisation import build, extract, let_pass, settings_for
from tests.small_organisation import organisation as organisation_rows
from tests.stand_in import SAMPLE_DATA, Connect, Serve, credentials_of


@pytest.fixture(scope="session")
def tls_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture
def start_organisation(tls_dir: Path) -> Iterator[Callable[..., Emulator]]:
    """Start stand-ins; arguments as `emulator.server.running`, seeded with the sample organisation by default."""
    with ExitStack() as stack:

        def start(data_dir: Path = SAMPLE_DATA, **options: Any) -> Emulator:
            context: AbstractContextManager[Emulator] = running(data_dir, tls_dir=tls_dir, **options)
            return stack.enter_context(context)

        yield start


@pytest.fixture
def organisation(start_organisation: Callable[..., Emulator]) -> Emulator:
    """The sample organisation, in pages of 10 rows."""
    return start_organisation(page_size=10)


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Open clients of a stand-in; `sleep` records waits instead of waiting unless told otherwise."""
    with ExitStack() as stack:

        def open_client(
            organisation: Emulator, credentials: Credentials | None = None, **options: Any
        ) -> DataverseClient:
            auth = DataverseAuth(credentials or credentials_of(organisation))
            options = {"sleep": lambda seconds: None, "timeout_seconds": 10} | options
            return stack.enter_context(
                DataverseClient(organisation.url, auth, ca_bundle=organisation.ca_bundle, **options)
            )

        yield open_client


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start plain HTTP servers on loopback whose answers a test writes itself; gives back the URL."""
    servers: list[tuple[ThreadingHTTPServer, threading.Thread]] = []

    def start(answer: Callable[[BaseHTTPRequestHandler], None]) -> str:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                answer(self)

            def log_message(self, *args: object) -> None:
                """Stay quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def extraction(organisation: Emulator, connect: Connect, tmp_path: Path) -> Extraction:
    """The sample organisation beside an empty lake."""
    return Extraction(
        organisation, connect(organisation), Lake(tmp_path / "raw"), Settings(data=tmp_path, page_size=10)
    )


@pytest.fixture(scope="session")
def candidate_template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Release]:
    """A small organisation's candidate that passed validation; tests work on copies, see `candidate`."""
    settings = settings_for(tmp_path_factory.mktemp("template") / "data")
    extract(settings, organisation_rows())
    return settings, let_pass(settings, build(settings))


@pytest.fixture
def candidate(candidate_template: tuple[Settings, Release], tmp_path: Path) -> tuple[Settings, Release]:
    """A data root with a candidate that passed validation."""
    settings, release = candidate_template
    shutil.copytree(settings.data, tmp_path / "data")
    return settings_for(tmp_path / "data"), release
