"""Load stage: make a Marketo instance hold what the live release says, by sending only what differs.

The steps of a load, each of which a killed run may have done or not:

1. probe the instance and compare it with `include/marketo.yaml`;
2. look up the leads of contacts that have none yet;
3. plan: the release against the ledger; too many deletes stop here, before anything is sent;
4. send companies, leads (where they are to be made), opportunities, roles;
5. remove roles, opportunities, companies.

So a changed role text is there before the old one goes, and every role goes before its opportunity.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from opportunity_sync.data_root import open_data_root
from opportunity_sync.errors import ReleaseError
from opportunity_sync.marketo.errors import QuotaUsedUpError
from opportunity_sync.marketo_load.instance import ROLES, Instance, probe
from opportunity_sync.marketo_load.leads import create_leads, find_leads
from opportunity_sync.marketo_load.ledger import Ledger, open_ledger
from opportunity_sync.marketo_load.mapping import LoadRules, load_rules
from opportunity_sync.marketo_load.plan import Counts, check_deletes, count_plan, make_plan, write_plan
from opportunity_sync.marketo_load.send import AT_ONCE, Deadline, send_changes
from opportunity_sync.settings import Settings

if TYPE_CHECKING:
    from opportunity_sync.marketo.client import MarketoClient

PLAN_FILE = "plan.parquet"

log = logging.getLogger("opportunity_sync.marketo_load")


@dataclass(frozen=True)
class Load:
    """What a load did."""

    release_id: str
    planned: dict[str, Counts]
    """Per Marketo object, as it was before sending."""
    sent: dict[str, dict[str, int]] = field(default_factory=dict)
    """Per Marketo object: records created, updated, deleted, rejected."""
    stopped: Literal["daily_calls", "time"] | None = None
    """Why it ended early; the next run continues."""
    calls: int = 0
    plan: Path | None = None
    """A dry run's plan."""


@dataclass(frozen=True)
class Session:
    """One release beside one instance's ledger."""

    client: MarketoClient
    settings: Settings
    rules: LoadRules
    ledger: Ledger
    release_id: str

    def probe(self) -> Instance:
        """What the instance says of itself; see `instance.probe`."""
        return probe(self.client, self.rules)

    def make_plan(self, instance: Instance) -> dict[str, Counts]:
        """Compare release and ledger, and count what differs."""
        make_plan(self.ledger, self.settings.sql, self.rules, instance)
        return count_plan(self.ledger, self.rules)


def load(client: MarketoClient, settings: Settings, *, accept_deletes: bool = False) -> Load:
    """Send to Marketo what differs between the live release and the ledger.

    Args:
        client: session with the instance.
        settings: settings of the data root.
        accept_deletes: delete however much it is.

    Returns:
        What was planned and done. Ending early because the day's calls or the time are used up is no error.

    Raises:
        NativeSyncOnError: the instance gets these objects from its own CRM sync; nothing was sent.
        ConfigurationError: `marketo.yaml` does not fit the release or the instance; nothing was sent.
        TooManyDeletesError: more would be deleted than may be; nothing was sent.
        MarketoError: a call failed for good; what was confirmed before is in the ledger.
    """
    started = time.monotonic()
    log.info("load_marketo: started, into %s", client.base_url)
    with open_session(client, settings) as session:
        done = _load(session, Deadline(settings.marketo_minutes), accept_deletes=accept_deletes)
    seconds = time.monotonic() - started
    if done.stopped:
        log.warning("load_marketo: stopped early (%s); the next run continues", done.stopped)
    log.info("load_marketo: finished, release %s, %d calls in %.1f s", done.release_id, done.calls, seconds)
    for name, counts in done.sent.items():
        log.info("load_marketo: %s: %s", name, ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())) or "none")
    return done


def dry_run(client: MarketoClient, settings: Settings) -> Load:
    """Look up leads and write the full plan as Parquet; send nothing.

    Returns:
        The plan's counts, and where it is.

    Raises:
        OpportunitySyncError: as `load`, apart from what sending brings.
    """
    with open_session(client, settings) as session:
        instance = session.probe()
        find_leads(client, session.ledger, session.rules, at_once=AT_ONCE)
        planned = session.make_plan(instance)
        file = session.ledger.folder / PLAN_FILE
        write_plan(session.ledger, file)
        _log_plan(planned)
        log.info("load_marketo: dry run, nothing was sent; every intended call is in %s", file)
        return Load(session.release_id, planned, calls=client.calls_made, plan=file)


@contextmanager
def open_session(client: MarketoClient, settings: Settings) -> Iterator[Session]:
    """Open an instance's ledger beside the live release; nothing is asked of the instance yet.

    Raises:
        OpportunitySyncError: see `load`.
    """
    rules = load_rules(settings.marketo_file)
    root = open_data_root(settings.data)
    if not root.live_file.exists():
        raise ReleaseError(
            "There is no live release", state="Nothing was sent to Marketo", action="Run the DAG opportunity_sync first"
        )
    with open_ledger(settings, client.base_url) as ledger:
        yield Session(client, settings, rules, ledger, ledger.attach_release(root.live_file))


def _load(session: Session, deadline: Deadline, *, accept_deletes: bool) -> Load:
    client, ledger, rules = session.client, session.ledger, session.rules
    planned: dict[str, Counts] = {}
    sent: dict[str, dict[str, int]] = {name: {} for name in rules.objects}
    stopped: Literal["daily_calls", "time"] | None = None
    before = client.calls_made
    try:
        instance = session.probe()
        find_leads(client, ledger, rules, at_once=AT_ONCE)
        planned = session.make_plan(instance)
        _log_plan(planned)
        if not accept_deletes:
            check_deletes(ledger, rules)
        ledger.forget_refused()
        _send(session, instance, deadline, sent)
        if deadline.has_stopped_us:
            stopped = "time"
        else:
            ledger.note_loaded(session.release_id)
    except QuotaUsedUpError as error:
        log.warning("load_marketo: %s", error)
        stopped = "daily_calls"
    return Load(session.release_id, planned, sent, stopped, client.calls_made - before)


def _send(session: Session, instance: Instance, deadline: Deadline, sent: dict[str, dict[str, int]]) -> None:
    """Send what is planned, parents first, then remove what is no longer wanted, children first."""
    client, ledger, rules = session.client, session.ledger, session.rules

    def send(name: str, *, deletes: bool) -> None:
        if not deadline.has_stopped_us:
            for kind, records in send_changes(client, ledger, name, deletes=deletes, deadline=deadline).items():
                sent[name][kind] = sent[name].get(kind, 0) + records

    for name in rules.objects[:-1]:
        send(name, deletes=False)
    if deadline.has_stopped_us:
        return
    if create_leads(client, ledger, rules, instance, at_once=AT_ONCE) or any(sent.values()):
        session.make_plan(instance)  # which roles can be sent depends on what has become of leads and opportunities
    send(ROLES, deletes=False)
    for name in reversed(rules.objects):
        send(name, deletes=True)


def _log_plan(planned: dict[str, Counts]) -> None:
    for name, counts in planned.items():
        log.info(
            "load_marketo: %s: %d confirmed, %d to create, %d to update, %d to delete, %d cut, parked %s, rejected %s",
            name,
            counts.confirmed,
            counts.create,
            counts.update,
            counts.delete,
            counts.cut,
            counts.parked or 0,
            counts.rejected or 0,
        )
