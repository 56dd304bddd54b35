"""Starting and stopping: the HTTPS listener, its certificates, the handle tests hold in their hands."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import authority as entra
from . import writes
from .app import LoggedRequest, Server
from .authority import Authority
from .certificates import Certificates, prepare
from .control import apply_operations
from .faults import Faults, parse_rules
from .listener import in_thread, listen
from .organisation import Organisation
from .query import MAX_PAGE
from .seeding import load


class Rows:
    """The organisation's rows in the hands of a test: reads and the writes a Dynamics user makes."""

    def __init__(self, org: Organisation) -> None:
        self._org = org

    def rows(self, table: str) -> list[dict[str, Any]]:
        """All live rows of a table, decoded."""
        return self._org.store.rows(table)

    def row(self, table: str, row_id: str) -> dict[str, Any] | None:
        """One live row, decoded, or None."""
        return self._org.store.decoded_row(table, row_id)

    def create(self, table: str, values: Mapping[str, Any]) -> str:
        """Create a row (Web API payload, or a row as in a seed); returns its id."""
        return writes.create(self._org, self._org.store.tables[table], values, internal=True)

    def update(self, table: str, row_id: str, values: Mapping[str, Any]) -> None:
        """Update an existing row."""
        writes.update(self._org, self._org.store.tables[table], row_id.lower(), values, if_match="*", internal=True)

    def delete(self, table: str, row_id: str, *, cascade: bool = True) -> None:
        """Delete a row and, unless told otherwise, what goes with it."""
        writes.delete(self._org, self._org.store.tables[table], row_id.lower(), cascade=cascade)

    def merge(self, table: str, target_id: str, subordinate_id: str, *, cascade: bool = True) -> None:
        """Merge the subordinate into the target."""
        tables = self._org.store.tables
        writes.merge_rows(self._org, tables[table], target_id.lower(), subordinate_id.lower(), cascade=cascade)

    def apply(self, operations: Sequence[Mapping[str, Any]]) -> list[str]:
        """Several writes in one transaction (see `control.apply_operations`)."""
        return apply_operations(self._org, list(operations))

    @property
    def version(self) -> int:
        """The last `versionnumber` given out."""
        return self._org.store.version


@dataclass(frozen=True)
class Emulator:
    """A running stand-in and its switches."""

    url: str
    ca_bundle: str
    certificate: str
    thumbprint: str
    store: Rows
    server: Server
    tenant: str = entra.TENANT
    client_id: str = entra.CLIENT_ID
    client_secret: str = entra.CLIENT_SECRET
    expired_secret: str = entra.EXPIRED_SECRET
    username: str = entra.USERNAME
    password: str = entra.PASSWORD

    @property
    def authority(self) -> str:
        """Authority URL for MSAL (with `instance_discovery=False`)."""
        return f"{self.url}/{self.tenant}"

    @property
    def organization_id(self) -> str:
        """What WhoAmI answers as OrganizationId."""
        return self.server.org.store.named_id("organization")

    @property
    def requests(self) -> list[LoggedRequest]:
        """Web API requests so far, oldest first."""
        return list(self.server.requests)

    def clear_requests(self) -> None:
        """Forget the requests so far."""
        self.server.requests.clear()

    def set_faults(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """Replace the fault rules (an empty list: none)."""
        self.server.faults.set(parse_rules(list(rules)))

    def revoke_tokens(self) -> None:
        """Make every token given out so far invalid."""
        self.server.authority.revoke_tokens()

    def expire_change_tracking(self, table: str | None = None) -> None:
        """Make every delta token given out so far invalid, for one table or all."""
        self.server.org.expire_change_tracking(table)

    def set_change_tracking(self, table: str, enabled: bool) -> None:
        """Switch ChangeTrackingEnabled of a table."""
        self.server.org.set_change_tracking(table, enabled)

    def drop_column(self, table: str, column: str) -> None:
        """Remove a column and its values from the organisation."""
        self.server.org.drop_column(table, column)

    def add_column(self, table: str, column: str, type: str = "String", **facts: object) -> None:  # noqa: A002
        """Add a custom column (see `Organisation.add_column`)."""
        self.server.org.add_column(table, column, type, **facts)

    def change_column(self, table: str, column: str, **facts: object) -> None:
        """Change what is said about a column (see `Organisation.change_column`)."""
        self.server.org.change_column(table, column, **facts)

    def set_privileges(self, *, member: bool = True, read: Mapping[str, str] | None = None) -> None:
        """Membership and read depth per table: `None`, `Basic` or `Global` (see `Organisation.set_privileges`)."""
        self.server.org.set_privileges(member=member, read=read)

    def advance_clock(self, seconds: float) -> None:
        """Move the server's clock: tokens and delta tokens expire by it."""
        self.server.org.clock.advance(seconds)


def open_server(
    data_dir: Path,
    state_dir: Path,
    tls_dir: Path,
    *,
    page_size: int,
    latency_ms: float,
    faults: Sequence[Any],
    token_lifetime: int,
    dop_hint: int | None = 4,
) -> tuple[Server, Certificates]:
    """Open (and when it is new, seed) the organisation; nothing listens yet."""
    certificates = prepare(tls_dir)
    org = Organisation(state_dir, page_size)
    if not org.store.seeded:
        load(org.store, data_dir)
    authority = Authority(certificates, org.clock, token_lifetime)
    server = Server(org, authority, latency_ms=latency_ms, dop_hint=dop_hint, faults=Faults(parse_rules(list(faults))))
    return server, certificates


@contextlib.contextmanager
def running(
    data_dir: Path | str,
    *,
    state_dir: Path | str | None = None,
    page_size: int = MAX_PAGE,
    latency_ms: float = 0,
    faults: Sequence[Any] = (),
    token_lifetime: int = 3600,
    dop_hint: int | None = 4,
    tls_dir: Path | str | None = None,
    port: int = 0,
) -> Iterator[Emulator]:
    """A stand-in in a thread of this process, for tests.

    Args:
        data_dir: Seed rows, used when the state is new.
        state_dir: Where the organisation lives on; a temporary folder when None.
        page_size: Rows per page when the client asks for no fewer.
        latency_ms: Added to every Web API request.
        faults: Fault rules as in a rule file.
        token_lifetime: Seconds.
        dop_hint: Requests at once that every answer suggests (`x-ms-dop-hint`); None: no such header.
        tls_dir: Where certificates are; inside the state folder when None.
        port: Loopback port; 0 picks a free one.
    """
    temporary = None if state_dir is not None else tempfile.mkdtemp(prefix="dataverse-stand-in-")
    state = Path(state_dir if state_dir is not None else str(temporary))
    server, certificates = open_server(
        Path(data_dir),
        state,
        Path(tls_dir) if tls_dir is not None else state / "tls",
        page_size=page_size,
        latency_ms=latency_ms,
        faults=faults,
        token_lifetime=token_lifetime,
        dop_hint=dop_hint,
    )
    listener = listen(server, certificates, port)
    try:
        with in_thread(listener, "dataverse-stand-in"):
            yield Emulator(
                url=server.base,
                ca_bundle=str(certificates.ca_bundle),
                certificate=str(certificates.application),
                thumbprint=certificates.thumbprint,
                store=Rows(server.org),
                server=server,
            )
    finally:
        server.org.store.close()
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
