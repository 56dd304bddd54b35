"""Fixtures of the tests of the Marketo client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from emulator.certificates import Certificates, prepare
from opportunity_sync.marketo.client import MarketoClient
from tests.scripted_marketo import ScriptedMarketo, scripted_marketo

Open = Callable[..., MarketoClient]


@pytest.fixture(scope="session")
def certificates(tls_dir: Path) -> Certificates:
    return prepare(tls_dir)


@pytest.fixture
def marketo(certificates: Certificates) -> Iterator[ScriptedMarketo]:
    """An instance whose answers the test writes."""
    with scripted_marketo(certificates) as running:
        yield running


@pytest.fixture
def open_client(marketo: ScriptedMarketo) -> Iterator[Open]:
    """Open clients of it that do not wait between tries unless told otherwise."""
    with ExitStack() as stack:

        def start(**options: Any) -> MarketoClient:
            options = {"sleep": lambda seconds: None, "retry_budget_seconds": 20} | options
            return stack.enter_context(MarketoClient(marketo.credentials, **options))

        yield start
