"""Names that tests share about the stand-in (see conftest.py for its fixtures)."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from emulator.server import Emulator
from opportunity_sync.dataverse.auth import Credentials
from opportunity_sync.dataverse.client import DataverseClient

SAMPLE_DATA = Path(__file__).parents[1] / "sample_data"

Connect = Callable[..., DataverseClient]
Serve = Callable[[Callable[[BaseHTTPRequestHandler], None]], str]


def credentials_of(organisation: Emulator, **changes: Any) -> Credentials:
    """The stand-in's application with its secret."""
    fields: dict[str, Any] = {
        "kind": "secret",
        "organization_url": organisation.url,
        "authority": organisation.authority,
        "client_id": organisation.client_id,
        "secret": organisation.client_secret,
        "ca_bundle": organisation.ca_bundle,
    }
    return Credentials(**(fields | changes))
