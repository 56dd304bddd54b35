"""What has to be sent: the difference between a release and the ledger, counted, checked and written down."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from opportunity_sync.errors import TooManyDeletesError
from opportunity_sync.marketo.objects import LEAD_ABSENT, MOST_RECORDS, OBJECT_ABSENT
from opportunity_sync.marketo_load.instance import ROLES, Instance
from opportunity_sync.marketo_load.ledger import Ledger, rows_of
from opportunity_sync.marketo_load.mapping import LoadRules
from opportunity_sync.marketo_load.wanted import model, write_wanted

IN_USE = 1022
PASSING = (LEAD_ABSENT, OBJECT_ABSENT, IN_USE)
"""Codes of refused records that pass when another record comes or goes; the others wait for the record to change."""


@dataclass
class Counts:
    """One Marketo object, in records."""

    confirmed: int = 0
    """Held by Marketo as the ledger last saw it confirmed."""
    create: int = 0
    update: int = 0
    delete: int = 0
    cut: int = 0
    """To create or update, with a text that had to be cut."""
    parked: dict[str, int] = field(default_factory=dict)
    """Waiting, by reason."""
    rejected: dict[str, int] = field(default_factory=dict)
    """Refused by Marketo and not sent again as they are, by code."""


def make_plan(ledger: Ledger, sql: Path, rules: LoadRules, instance: Instance) -> None:
    """Make the table `plan.changes`: every record that has to be sent.

    Raises:
        ConfigurationError: a mapped column does not exist, or does not fit the type of its field.
    """
    write_wanted(ledger, sql, rules, instance)
    connection = ledger.connection
    connection.execute("set variable objects = $1::varchar[]", [list(rules.objects)])
    connection.execute("set variable passing_codes = $1::integer[]", [list(PASSING)])
    connection.execute(f"create or replace table plan.changes as {model(sql, 'changes')}")


def count_plan(ledger: Ledger, rules: LoadRules) -> dict[str, Counts]:
    """Count what is there, what has to be sent and what cannot be."""
    connection = ledger.connection
    counts = {name: Counts() for name in rules.objects}
    held = "select object, count(*) from ledger.records where state = 'confirmed' group by object"
    for name, records in rows_of(connection, held):
        if name in counts:
            counts[name].confirmed = records
    changes = "select object, action, count(*), count(*) filter (len(cut) > 0) from plan.changes group by all"
    for name, action, records, cut in rows_of(connection, changes):
        setattr(counts[name], action, records)
        counts[name].cut += cut
    refused = """
        select object, coalesce(code::varchar, 'none'), count(*)
        from ledger.records anti join plan.changes using (object, key)
        where state = 'rejected' and (held or (object, key) in (select (object, key) from plan.wanted))
        group by all order by all
        """
    for name, code, records in rows_of(connection, refused):
        if name in counts:
            counts[name].rejected[code] = records
    parked = "select parked, count(*) from plan.roles where parked is not null group by all order by all"
    counts[ROLES].parked = {str(reason): int(records) for reason, records in rows_of(connection, parked)}
    return counts


def check_deletes(ledger: Ledger, rules: LoadRules) -> None:
    """Object to a plan that would delete too much. A role that another one of the same person replaces does not count.

    Raises:
        TooManyDeletesError: more than `deletes.share` of an object's records would go.
    """
    lost = """
        select object, count(*)
        from plan.changes as changes
        where action = 'delete' and not exists (
            from plan.wanted as wanted
            where
                changes.object = $roles
                and wanted.object = $roles
                and json_extract_string(wanted.key, '$.leadId') = json_extract_string(changes.key, '$.leadId')
                and json_extract_string(wanted.key, '$.externalOpportunityId')
                    = json_extract_string(changes.key, '$.externalOpportunityId')
        )
        group by object order by object
        """
    held = dict(rows_of(ledger.connection, "select object, count(*) from ledger.records where held group by object"))
    too_many = [
        f"{deletes} of {held.get(name, 0)} {name}"
        for name, deletes in rows_of(ledger.connection, lost, {"roles": ROLES})
        if deletes > max(rules.deletes_always_allowed, rules.delete_share * held.get(name, 0))
    ]
    if too_many:
        raise TooManyDeletesError(
            f"This release would delete {' and '.join(too_many)} from Marketo, more than {rules.delete_share:.0%}",
            state="Nothing was sent; Marketo is as it was",
            action="Look at the plan that `opportunity-sync marketo dry-run` writes; if it is right, trigger "
            "opportunity_sync with accept_marketo_deletes",
        )


def write_plan(ledger: Ledger, file: Path) -> None:
    """Write every intended call, record by record in the order of sending, and what is parked, as Parquet."""
    quoted = str(file).replace("'", "''")
    ledger.connection.execute(f"""
        copy (
            with ordered as (
                select
                    case
                        when action = 'delete' then 10 - list_position(getvariable('objects'), object)
                        else list_position(getvariable('objects'), object)
                    end as step,
                    *
                from plan.changes
            ),
            numbered as (select *, row_number() over (partition by step order by key) as position from ordered)
            select
                step, ((position - 1) // {MOST_RECORDS} + 1)::integer as call, object, action, key, fields, cut,
                null::varchar as parked
            from numbered
            union all
            select
                null, null, '{ROLES}', 'parked',
                json_object('externalOpportunityId', opportunity_id, 'contactId', contact_id, 'role', role)::varchar,
                null, [], parked
            from plan.roles
            where parked is not null
            order by step nulls last, call, key
        ) to '{quoted}' (format parquet, compression zstd)
        """)
