"""Rebuild a lost ledger by asking Marketo for the keys it may hold, and for the leads; nothing is sent.

Marketo cannot list what it holds, it only answers for keys it is given: those of the live release, of the release's
history, and of the old ledger if there is one. What is found counts as held with unknown content, so the next load
sends every record of it once more and deletes what is no longer wanted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from opportunity_sync.marketo.objects import MOST_RECORDS, OBJECTS
from opportunity_sync.marketo_load import Session
from opportunity_sync.marketo_load.flight import run_calls
from opportunity_sync.marketo_load.instance import ROLES
from opportunity_sync.marketo_load.leads import find_leads
from opportunity_sync.marketo_load.ledger import rows_of
from opportunity_sync.marketo_load.lookups import look_up
from opportunity_sync.marketo_load.send import AT_ONCE

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SEARCHED_BY = {
    "companies": "externalCompanyId",
    "opportunities": "externalOpportunityId",
    ROLES: "externalOpportunityId",
}
"""Field by which the records of an object are asked for."""
KEY = {
    "companies": "'externalCompanyId', record ->> 'externalCompanyId'",
    "opportunities": "'externalOpportunityId', record ->> 'externalOpportunityId'",
    ROLES: "'externalOpportunityId', record ->> 'externalOpportunityId', 'leadId', (record ->> 'leadId')::bigint, "
    "'role', record ->> 'role'",
}
"""The key of a found record as `include/sql/marketo/` writes it."""

log = logging.getLogger("opportunity_sync.marketo_load")


def rebuild_ledger(session: Session) -> dict[str, int]:
    """Replace the ledger's records by what Marketo says it holds, all at once; then look up leads that are not known.

    Returns:
        Per Marketo object how many records were found.

    Raises:
        MarketoError: a call failed for good; unless only leads were left to look up, the ledger is as it was.
    """
    connection = session.ledger.connection
    log.info("rebuild_ledger: started")
    session.probe()
    connection.execute("create or replace table plan.found (object varchar, key varchar, marketo_id varchar)")
    found = {name: _find(session, name) for name in session.rules.objects}
    connection.execute("begin")
    connection.execute("delete from ledger.records")
    connection.execute(
        """
        insert into ledger.records (object, key, state, held, marketo_id, attempts)
        select object, key, 'sent', true, any_value(marketo_id), 0 from plan.found group by object, key
        """
    )
    connection.execute("commit")
    find_leads(session.client, session.ledger, session.rules, at_once=AT_ONCE)
    log.info("rebuild_ledger: finished, %s", ", ".join(f"{records} {name}" for name, records in found.items()))
    return found


def _find(session: Session, object_name: str) -> int:
    """Ask for all keys of one object that may be there, and put what is there into `plan.found`."""
    connection = session.ledger.connection
    field = SEARCHED_BY[object_name]
    connection.execute(f"create or replace table plan.known as {_known_ids(connection, object_name)}")
    fields = list(OBJECTS[object_name].dedupe_fields)
    found = 0

    def ask(ids: Sequence[str]) -> list[dict[str, Any]]:
        return look_up(session.client, object_name, field, ids, fields)

    def note(ids: Sequence[str], records: list[dict[str, Any]]) -> None:
        nonlocal found
        connection.execute(
            f"""
            insert into plan.found
            select
                $name, json_object({KEY[object_name]})::varchar,
                coalesce(record ->> 'marketoGUID', record ->> 'id')
            from (select unnest($records::json[]) as record)
            """,
            {"name": object_name, "records": [msgspec.json.encode(record).decode() for record in records]},
        )
        found += len(records)

    run_calls(_batches(connection), ask, note, at_once=AT_ONCE)
    return found


def _known_ids(connection: DuckDBPyConnection, object_name: str) -> str:
    """SQL for the ids to ask for; of roles, those of the opportunities that were found."""
    if object_name == ROLES:
        ids = "select key ->> 'externalOpportunityId' as id from plan.found where object = 'opportunities'"
    else:
        table, column = {"companies": ("accounts", "account_id"), "opportunities": ("opportunities", "opportunity_id")}[
            object_name
        ]
        field = SEARCHED_BY[object_name]
        sources = [
            f"select {column}::varchar as id from published.{table}",
            f"select json_extract_string(key, '$.{field}') from ledger.records where object = '{object_name}'",
        ]
        kept = "select count(*) from duckdb_tables() where database_name = 'published' and schema_name = 'history'"
        if rows_of(connection, f"{kept} and table_name = '{table}'") != [(0,)]:
            sources.append(f"select {column}::varchar from published.history.{table}")
        ids = " union ".join(sources)
    return f"select row_number() over (order by id) as position, id from (select distinct id from ({ids}))"


def _batches(connection: DuckDBPyConnection) -> Iterator[list[str]]:
    ((last,),) = rows_of(connection, "select count(*) from plan.known")
    for first in range(1, last + 1, MOST_RECORDS):
        rows = rows_of(
            connection,
            "select id from plan.known where position between ? and ? order by position",
            [first, first + MOST_RECORDS - 1],
        )
        yield [str(known) for (known,) in rows]
