"""Find the Marketo lead of each contact that has a role; what was found is kept in the ledger.

A lead is asked for when a contact appears, when its value in `leads.column` changes, and again in later runs as long as
there is none. A lead once found stays the contact's until another one is found or Marketo says that it is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from opportunity_sync.marketo.objects import MOST_RECORDS, RecordResult
from opportunity_sync.marketo_load.flight import run_calls
from opportunity_sync.marketo_load.instance import Instance
from opportunity_sync.marketo_load.ledger import Ledger, rows_of
from opportunity_sync.marketo_load.lookups import look_up
from opportunity_sync.marketo_load.mapping import LoadRules
from opportunity_sync.marketo_load.wanted import check_column, column_types, fields_sql

if TYPE_CHECKING:
    from opportunity_sync.marketo.client import MarketoClient

TO_ASK = """
with contacts as (
    select distinct contacts.contact_id, nullif(trim(cast(contacts."{column}" as varchar)), '') as value
    from published.opportunity_contact_roles as roles
    inner join published.contacts as contacts on contacts.contact_id = roles.contact_id
    where list_contains($sources::varchar[], roles.role_source)
),
waiting as (
    select
        contacts.contact_id,
        contacts.value,
        leads.contact_id is null
            or leads.asked_at is null
            or leads.field <> $field
            or leads.value is distinct from contacts.value as is_new,
        leads.asked_at
    from contacts
    left join ledger.leads as leads on leads.contact_id = contacts.contact_id
    where is_new or (leads.lead_id is null and contacts.value is not null)
),
ranked as (
    select
        waiting.*,
        row_number() over (partition by is_new order by asked_at nulls first, contact_id) as place
    from waiting
)
select contact_id, value, row_number() over (order by is_new desc, place) as position
from ranked
where is_new or place <= $asked_again
"""

log = logging.getLogger("opportunity_sync.marketo_load")


@dataclass(frozen=True)
class NewLeads:
    """One call that makes leads."""

    records: Sequence[Mapping[str, Any]]
    contacts: Sequence[tuple[str, Sequence[str]]]
    """Per record: the value looked for, and the contacts that share it."""


@dataclass(frozen=True)
class Asked:
    """One call: contacts and the values looked for."""

    contacts: Sequence[tuple[str, str]]

    @property
    def values(self) -> list[str]:
        """Each value once; without regard to case, as Marketo compares e-mail addresses."""
        return list({value.lower(): value for _, value in self.contacts}.values())


def find_leads(client: MarketoClient, ledger: Ledger, rules: LoadRules, *, at_once: int) -> None:
    """Look up the leads that are not known yet.

    Raises:
        ConfigurationError: `leads.column` is no column of `contacts`.
        MarketoError: a call failed for good; what was found before is kept.
    """
    columns = column_types(ledger.connection, "contacts")
    rule = rules.leads
    check_column(rules, rule.column, columns, table="contacts", line=rule.line)
    ledger.connection.execute(
        f"create or replace table plan.lookups as {TO_ASK.format(column=rule.column)}",
        {"sources": list(rules.sources), "field": rule.field, "asked_again": rule.asked_again},
    )
    counts = {"asked": 0, "found": 0}

    def note(asked: Asked, found: Mapping[str, list[int]]) -> None:
        results = [(contact, value, *_outcome(found.get(value.lower(), []))) for contact, value in asked.contacts]
        ledger.note_leads(rule.field, results)
        counts["asked"] += len(results)
        counts["found"] += sum(lead is not None for _, _, lead, _ in results)

    for contacts in _batches(ledger, "value is null"):
        ledger.note_leads(rule.field, [(contact, None, None, "no_lookup_value") for contact, _ in contacts])
    calls = (Asked(contacts) for contacts in _batches(ledger, "value is not null"))
    run_calls(calls, lambda asked: _ask(client, rule.field, asked.values), note, at_once=at_once)
    log.info("load_marketo: %d contacts looked up, %d have a lead", counts["asked"], counts["found"])


def create_leads(client: MarketoClient, ledger: Ledger, rules: LoadRules, instance: Instance, *, at_once: int) -> int:
    """Make a lead for each contact that has none, where `leads.create` says so; contacts with one value share a lead.

    A lead that was made by a run which did not live to note it is found by the next look-up.

    Returns:
        How many were made.

    Raises:
        ConfigurationError: a mapped column does not exist, or does not fit the type of its field.
        MarketoError: a call failed for good; what was made before is kept.
    """
    rule = rules.leads
    if not rule.create:
        return 0
    fields, _ = fields_sql(ledger.connection, rules, instance, "leads", rule.made_with, table="contacts")
    ledger.connection.execute(
        f"""
        create or replace table plan.new_leads as
        select
            row_number() over (order by min(leads.contact_id)) as position,
            arg_min(leads.value, leads.contact_id) as value,
            arg_min(contacts.fields, leads.contact_id) as fields,
            list(leads.contact_id::varchar) as contact_ids
        from ledger.leads
        inner join (select contact_id, {fields} as fields from published.contacts) as contacts using (contact_id)
        where leads.lead_id is null and leads.reason in ('no_lead', 'lead_gone') and leads.value is not null
        group by lower(leads.value)
        """
    )
    made = 0

    def note(batch: NewLeads, results: list[RecordResult]) -> None:
        nonlocal made
        ledger.note_leads(
            rule.field,
            [
                (contact, value, *_made(result))
                for (value, contacts), result in zip(batch.contacts, results, strict=True)
                for contact in contacts
            ],
        )
        made += sum(result.status == "created" for result in results)

    def call(batch: NewLeads) -> list[RecordResult]:
        return client.upsert("leads", batch.records, action="createOnly", lookup_field=rule.field)

    run_calls(_new_leads(client, ledger, rule.field), call, note, at_once=at_once)
    log.info("load_marketo: %d leads created", made)
    return made


def _new_leads(client: MarketoClient, ledger: Ledger, field: str) -> Iterator[NewLeads]:
    ((last,),) = rows_of(ledger.connection, "select coalesce(max(position), 0) from plan.new_leads")
    for first in range(1, last + 1, MOST_RECORDS):
        rows = rows_of(
            ledger.connection,
            "select value, fields, contact_ids from plan.new_leads where position between ? and ? order by position",
            [first, first + MOST_RECORDS - 1],
        )
        begin = 0
        for records in client.batches(msgspec.json.decode(fields) | {field: value} for value, fields, _ in rows):
            end = begin + len(records)
            yield NewLeads(records, [(value, contacts) for value, _, contacts in rows[begin:end]])
            begin = end


def _made(result: RecordResult) -> tuple[int | None, str | None]:
    if result.status == "created" and result.marketo_id:
        return int(result.marketo_id), None
    return None, f"lead_rejected_{result.code or 'without_code'}"


def _batches(ledger: Ledger, condition: str) -> Iterator[list[tuple[str, str]]]:
    ((last,),) = rows_of(ledger.connection, "select coalesce(max(position), 0) from plan.lookups")
    for first in range(1, last + 1, MOST_RECORDS):
        found = rows_of(
            ledger.connection,
            f"""
            select contact_id, value from plan.lookups
            where position between ? and ? and {condition} order by position
            """,
            [first, first + MOST_RECORDS - 1],
        )
        if found:
            yield [(str(contact), value) for contact, value in found]


def _ask(client: MarketoClient, field: str, values: list[str]) -> dict[str, list[int]]:
    """Lead ids per value in lower case; a value with more leads than Marketo lists gets two ids that are none."""
    crowded: list[str] = []
    leads: dict[str, list[int]] = {}
    for row in look_up(client, "leads", field, values, ["id", field], crowded):
        leads.setdefault(str(row.get(field)).strip().lower(), []).append(int(row["id"]))
    return leads | {value.lower(): [0, 0] for value in crowded}


def _outcome(leads: list[int]) -> tuple[int | None, str | None]:
    if len(leads) == 1:
        return leads[0], None
    return None, "several_leads" if leads else "no_lead"
