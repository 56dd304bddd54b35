"""The ledger: what Marketo has confirmed to hold, one DuckDB file per Marketo instance.

`marketo/<host>/ledger.duckdb` below the data root. Before a record is sent it is noted as `sent`; the answer makes it
`confirmed` or `rejected`. What a killed run leaves as `sent` may or may not have arrived, so the next run sends it
again, or deletes it when it is no longer wanted: both are harmless if repeated. `held` says that Marketo holds a record
under that key, or may hold it.

| table | one row per |
|---|---|
| `records` | Marketo object and key that was ever sent and may still be there, or was rejected |
| `leads` | contact whose lead was looked up |
| `about` | one row: whose ledger this is, and which release was loaded last |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opportunity_sync.data_root import disk_errors, open_data_root
from opportunity_sync.errors import ConfigurationError, DataRootError
from opportunity_sync.settings import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FORMAT = 1
"""Layout of the file; raised when an older version could misread it."""
LOCK_SECONDS = 60
MEMORY_LIMIT = "128MB"
"""Of DuckDB while planning and sending; more goes to disk."""

SCHEMA = """
create table if not exists ledger.about (
    format integer, host varchar, created_at timestamp, release_id varchar, loaded_at timestamp
);
create table if not exists ledger.records (
    object varchar, key varchar, state varchar, hash varchar, held boolean, marketo_id varchar, confirmed_at timestamp,
    attempts integer, code integer, message varchar
);
create table if not exists ledger.leads (
    contact_id uuid, field varchar, value varchar, lead_id bigint, reason varchar, asked_at timestamp
);
"""

SETTLED = """
merge into ledger.records as records
using (
    select step.object, step.key, step.hash, step.action, answer.*
    from plan.step as step
    inner join (
        select
            unnest($positions::bigint[]) as position, unnest($done::boolean[]) as is_done,
            unnest($ids::varchar[]) as marketo_id, unnest($codes::integer[]) as code,
            unnest($messages::varchar[]) as message
    ) as answer on answer.position = step.position
) as settled
on records.object = settled.object and records.key = settled.key
when matched and settled.is_done and settled.action = 'delete' then delete
when matched and settled.is_done then update set
    state = 'confirmed', hash = settled.hash, held = true,
    marketo_id = coalesce(settled.marketo_id, records.marketo_id), confirmed_at = $now, attempts = 0, code = null,
    message = null
when matched then update set
    state = 'rejected', hash = settled.hash, code = settled.code, message = settled.message
"""


@dataclass(frozen=True)
class Answer:
    """What became of one record that was sent."""

    position: int
    """Its number in `plan.step`."""
    done: bool
    marketo_id: str | None = None
    code: int | None = None
    message: str | None = None


class Ledger:
    """An open ledger. Its connection has the catalogs `ledger`, `plan` (scratch) and, once attached, `published`."""

    def __init__(self, connection: DuckDBPyConnection, folder: Path, host: str) -> None:
        self.connection = connection
        self.folder = folder
        self.host = host

    def attach_release(self, file: Path) -> str:
        """Let the connection see a release as `published`; returns its id."""
        self.connection.execute(f"attach {_quoted(file)} as published (read_only)")
        ((release_id,),) = self.connection.execute("select release_id from published.release").fetchall()
        return str(release_id)

    def note_sent(self, first: int, last: int) -> None:
        """Note that the records with these positions in `plan.step` are about to be sent."""
        self.connection.execute(
            """
            merge into ledger.records as records
            using (select * from plan.step where position between $first and $last) as step
            on records.object = step.object and records.key = step.key
            when matched then update set
                state = 'sent', hash = step.hash, held = records.held or records.state = 'sent',
                attempts = records.attempts + 1
            when not matched then insert (object, key, state, hash, held, attempts)
                values (step.object, step.key, 'sent', step.hash, false, 1)
            """,
            {"first": first, "last": last},
        )

    def note_answers(self, answers: Sequence[Answer]) -> None:
        """Note what Marketo answered; durable when this returns."""
        self.connection.execute(
            SETTLED,
            {
                "positions": [answer.position for answer in answers],
                "done": [answer.done for answer in answers],
                "ids": [answer.marketo_id for answer in answers],
                "codes": [answer.code for answer in answers],
                "messages": [answer.message for answer in answers],
                "now": _now(),
            },
        )

    def doubt_roles(self, opportunity_ids: Sequence[str]) -> None:
        """Note that roles of these opportunities may be gone, because Marketo had lost the opportunity itself."""
        self._doubt("opportunities/roles", opportunity_ids)

    def doubt_opportunities(self, opportunity_ids: Sequence[str]) -> None:
        """Note that these opportunities may be gone, and their roles with them."""
        self._doubt("opportunities", opportunity_ids)
        self.doubt_roles(opportunity_ids)

    def _doubt(self, object_name: str, opportunity_ids: Sequence[str]) -> None:
        if not opportunity_ids:
            return
        self.connection.execute(
            """
            update ledger.records set state = 'sent', held = true
            where object = $object and state = 'confirmed'
                and list_contains($ids::varchar[], json_extract_string(key, '$.externalOpportunityId'))
            """,
            {"object": object_name, "ids": list(opportunity_ids)},
        )

    def forget_leads(self, lead_ids: Sequence[int]) -> None:
        """Note that Marketo has no such leads any more, so that their contacts are looked up again."""
        if not lead_ids:
            return
        self.connection.execute(
            """
            update ledger.leads set lead_id = null, reason = 'lead_gone', asked_at = null
            where list_contains($ids::bigint[], lead_id)
            """,
            {"ids": list(lead_ids)},
        )

    def note_leads(self, field: str, found: Sequence[tuple[str, str | None, int | None, str | None]]) -> None:
        """Note the results of lead look-ups. A lead once found stays the contact's until another is found.

        Args:
            field: lead field that was compared.
            found: contact id, value looked for, lead id and, when there is none, the reason.
        """
        self.connection.execute(
            """
            merge into ledger.leads as leads
            using (
                select
                    unnest($contacts::uuid[]) as contact_id, unnest($values::varchar[]) as value,
                    unnest($leads::bigint[]) as lead_id, unnest($reasons::varchar[]) as reason
            ) as found
            on leads.contact_id = found.contact_id
            when matched then update set
                field = $field, value = found.value, asked_at = $now, reason = found.reason,
                lead_id = coalesce(found.lead_id, leads.lead_id)
            when not matched then insert values
                (found.contact_id, $field, found.value, found.lead_id, found.reason, $now)
            """,
            {
                "contacts": [contact for contact, _, _, _ in found],
                "values": [value for _, value, _, _ in found],
                "leads": [lead for _, _, lead, _ in found],
                "reasons": [reason for _, _, _, reason in found],
                "field": field,
                "now": _now(),
            },
        )

    def forget_refused(self) -> None:
        """Drop records that Marketo refused, never held and nobody wants any more."""
        self.connection.execute(
            """
            delete from ledger.records as records
            where state = 'rejected' and not held and list_contains(getvariable('objects'), object) and not exists (
                from plan.wanted as wanted where wanted.object = records.object and wanted.key = records.key
            )
            """
        )

    def note_loaded(self, release_id: str) -> None:
        """Note that everything that can be sent of a release was sent."""
        self.connection.execute("update ledger.about set release_id = ?, loaded_at = ?", [release_id, _now()])

    def loaded_release(self) -> str | None:
        """The release that was last loaded to the end."""
        ((release_id,),) = self.connection.execute("select release_id from ledger.about").fetchall()
        return release_id and str(release_id)


@contextmanager
def open_ledger(settings: Settings, base_url: str, *, name: str = "ledger.duckdb") -> Iterator[Ledger]:
    """Open the ledger of a Marketo instance, for one process at a time; it is created if there is none.

    Args:
        settings: settings of the data root.
        base_url: address of the instance; its host name says which one it is.
        name: file name in the instance's folder.

    Raises:
        ConfigurationError: the file is the ledger of another instance, or of a newer version.
        DataRootError: another process is using it, or the disk is full.
    """
    import duckdb
    from filelock import FileLock, Timeout

    host = str(urlsplit(base_url).hostname)
    folder = open_data_root(settings.data).marketo / host
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / "ledger.lock", timeout=LOCK_SECONDS).acquire()
    except Timeout:
        error = DataRootError(
            f"Another process has been loading into {host} for over {LOCK_SECONDS} s",
            state="Nothing was sent by this one",
            action="Wait for the other run, or end it if it hangs; then run again",
        )
        error.transient = True
        raise error from None
    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY_LIMIT,
        "temp_directory": str(folder / "spill"),
        "threads": "2",
    }
    scratch = folder / "plan.duckdb"
    with lock, disk_errors(folder):
        _remove(scratch)
        try:
            with duckdb.connect(":memory:", config=config) as connection:
                connection.execute(f"attach {_quoted(folder / name)} as ledger")
                connection.execute(f"attach {_quoted(scratch)} as plan")
                _check_owner(connection, folder / name, host)
                yield Ledger(connection, folder, host)
        finally:
            _remove(scratch)


def _check_owner(connection: DuckDBPyConnection, file: Path, host: str) -> None:
    connection.execute(SCHEMA)
    found = connection.execute("select format, host from ledger.about").fetchall()
    if not found:
        connection.execute("insert into ledger.about values (?, ?, ?, null, null)", [FORMAT, host, _now()])
        return
    ((layout, owner),) = found
    if owner != host:
        raise ConfigurationError(
            f"{file} is the ledger of {owner}, not of {host}",
            state="Nothing was sent to Marketo",
            action="Put the file back where it belongs; `opportunity-sync marketo rebuild-ledger` makes a new one",
        )
    if layout > FORMAT:
        raise ConfigurationError(
            f"{file} was written by a newer version",
            state="Nothing was sent to Marketo",
            action="Upgrade opportunity-sync",
        )


def _remove(file: Path) -> None:
    for path in (file, file.with_name(f"{file.name}.wal")):
        path.unlink(missing_ok=True)


def _quoted(file: Path) -> str:
    return "'{}'".format(str(file).replace("'", "''"))


def rows_of(connection: DuckDBPyConnection, query: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    """All rows of a small query."""
    return connection.execute(query, parameters).fetchall()


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
