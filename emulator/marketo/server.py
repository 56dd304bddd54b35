"""Starting and stopping: the HTTPS listener, its certificates, the handle tests hold in their hands."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from emulator.certificates import Certificates, prepare
from emulator.faults import Faults
from emulator.listener import Listener, bind, in_thread, listener_for

from . import control, identity
from .app import Exchange, Server, build
from .faults import parse_rules
from .identity import Identity
from .instance import CONTACT_FIELD, Instance
from .limits import Counters, Limits
from .seeding import load_contacts, load_leads


@dataclass(frozen=True)
class MarketoEmulator:
    """A running stand-in and its switches."""

    url: str
    ca_bundle: str
    server: Server
    client_id: str = identity.CLIENT_ID
    client_secret: str = identity.CLIENT_SECRET

    # -- records ------------------------------------------------------------------------------------------
    def records(self, path: str) -> list[dict[str, Any]]:
        """All records of `opportunities`, `opportunities/roles`, `companies` or `leads`, oldest first."""
        with self.server.instance.call():
            return list(self.server.instance.table(path))

    def upsert(
        self, path: str, records: Sequence[Mapping[str, Any]], lookup_field: str = "email"
    ) -> list[dict[str, Any]]:
        """Create or update records past all limits (see `control.upsert`)."""
        return control.upsert(self.server.instance, path, records, lookup_field)

    def delete(self, path: str, keys: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Delete records by key past all limits (see `control.delete`)."""
        return control.delete(self.server.instance, path, keys)

    def add_field(self, path: str, name: str, type: str = "string", length: int | None = None) -> None:  # noqa: A002
        """Add a custom field (see `Instance.add_field`)."""
        self.server.instance.add_field(path, name, type, length)

    # -- what was asked -----------------------------------------------------------------------------------
    @property
    def counters(self) -> Counters:
        """What came in since the start or `forget`."""
        return self.server.counters

    @property
    def requests(self) -> list[Exchange]:
        """REST requests and their answers, oldest first."""
        return list(self.server.requests)

    def forget(self) -> None:
        """Begin counters and requests anew."""
        self.server.forget()

    @property
    def used_today(self) -> int:
        """Calls counted against today's quota."""
        return self.server.limits.used[self.server.limits.today()]

    # -- switches -----------------------------------------------------------------------------------------
    def set_faults(self, rules: Sequence[Mapping[str, Any]]) -> None:
        """Replace the fault rules (an empty list: none)."""
        self.server.faults.set(parse_rules(list(rules)))

    def revoke_tokens(self) -> None:
        """Make the present token invalid (601)."""
        self.server.identity.revoke()

    def expire_tokens(self) -> None:
        """End the present token's life (602)."""
        self.server.identity.expire()

    def set_native_crm_sync(self, on: bool) -> None:
        """Switch the native CRM synchronisation on or off."""
        self.server.instance.native_crm_sync = on

    def set_access(self, **access: str) -> None:
        """What the API user may do: `opportunities="read"`, ... (see `Instance.set_access`)."""
        self.server.instance.set_access(access)

    def set_feature(self, path: str, on: bool) -> None:
        """Switch an object's API on or off for the subscription (703)."""
        self.server.instance.set_feature(path, on)

    def set_limits(self, **limits: int) -> None:
        """Change `calls_per_window`, `concurrent_calls` or `daily_quota`."""
        self.server.limits.set(**limits)

    def set_used_today(self, calls: int) -> None:
        """Say that so many calls were made today."""
        self.server.limits.set_used(calls)

    def set_latency(self, milliseconds: float) -> None:
        """How long every REST call takes."""
        self.server.latency_ms = milliseconds

    def advance_clock(self, seconds: float) -> None:
        """Move the server's clock: tokens expire, windows pass, days end."""
        self.server.instance.clock.advance(seconds)

    def advance_to_quota_reset(self) -> None:
        """Move the server's clock to the next midnight US Central."""
        limits, before = self.server.limits, self.server.limits.today()
        while limits.today() == before:
            self.server.instance.clock.advance(timedelta(minutes=5).total_seconds())


def open_server(
    tls_dir: Path,
    *,
    state_dir: Path | None = None,
    leads: Path | None = None,
    contacts: Path | None = None,
    contact_field: str = CONTACT_FIELD,
    latency_ms: float = 0,
    faults: Sequence[Any] = (),
    token_lifetime: int = 3600,
    limits: Mapping[str, int] | None = None,
    native_crm_sync: bool = False,
    keep_bodies: bool = False,
) -> tuple[Server, Certificates]:
    """Open (and when it is new, seed) the instance; nothing listens yet."""
    certificates = prepare(tls_dir)
    instance = Instance(state_dir, contact_field=contact_field)
    if instance.is_new and leads is not None:
        load_leads(instance, leads)
    if instance.is_new and contacts is not None:
        load_contacts(instance, contacts)
    instance.native_crm_sync = native_crm_sync
    measured = Limits(instance.clock)
    measured.set(**(limits or {}))
    server = Server(
        instance,
        Identity(instance.clock, token_lifetime),
        measured,
        latency_ms=latency_ms,
        keep_bodies=keep_bodies,
        faults=Faults(parse_rules(list(faults))),
    )
    return server, certificates


def listen(server: Server, certificates: Certificates, port: int) -> Listener:
    """Bind a loopback port (0: a free one) and set `server.base`; nothing is served yet.

    Raises:
        OSError: The port is taken.
    """
    listening, server.base = bind(port)
    return listener_for(build(server), listening, certificates)


@contextlib.contextmanager
def running(*, tls_dir: Path | str | None = None, port: int = 0, **options: Any) -> Iterator[MarketoEmulator]:
    """A stand-in in a thread of this process, for tests.

    Args:
        tls_dir: Where certificates are; a temporary folder when None.
        port: Loopback port; 0 picks a free one.
        **options: See `open_server`.
    """
    temporary = None if tls_dir is not None else tempfile.mkdtemp(prefix="marketo-stand-in-")
    server, certificates = open_server(Path(str(tls_dir or temporary)), **options)
    try:
        with in_thread(listen(server, certificates, port), "marketo-stand-in"):
            yield MarketoEmulator(server.base, str(certificates.ca_bundle), server)
    finally:
        server.instance.close()
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
