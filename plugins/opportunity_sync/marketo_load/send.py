"""Send planned records and note every answer in the ledger, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from opportunity_sync.marketo.objects import LEAD_ABSENT, MOST_RECORDS, OBJECT_ABSENT, RecordResult
from opportunity_sync.marketo_load.flight import run_calls
from opportunity_sync.marketo_load.instance import ROLES
from opportunity_sync.marketo_load.ledger import Answer, Ledger, rows_of

if TYPE_CHECKING:
    from opportunity_sync.marketo.client import MarketoClient

AT_ONCE = 10
"""Threads, as many as Marketo takes calls at once; how many of them really call is the client's to decide."""


@dataclass(frozen=True)
class Batch:
    """The records of one call."""

    first: int
    """Position of the first record in `plan.step`."""
    records: Sequence[Mapping[str, Any]]
    was_held: Sequence[bool]
    """Per record: whether Marketo held it, as far as the ledger knew."""


class Deadline:
    """When to stop sending, so that the next hourly run is not kept waiting."""

    def __init__(self, minutes: float) -> None:
        self._ends_at = time.monotonic() + 60 * minutes
        self.has_stopped_us = False
        """True once something was left for the next run."""

    def passed(self) -> bool:
        """Ask before sending a batch."""
        self.has_stopped_us = self.has_stopped_us or time.monotonic() >= self._ends_at
        return self.has_stopped_us


def send_changes(
    client: MarketoClient, ledger: Ledger, object_name: str, *, deletes: bool, deadline: Deadline
) -> dict[str, int]:
    """Send the planned changes of one object, creates and updates together, or deletes, until the deadline has passed.

    Returns:
        Records by what became of them: created, updated, deleted, rejected.

    Raises:
        MarketoError: a call failed for good; everything answered is in the ledger.
    """
    ledger.connection.execute(
        """
        create or replace table plan.step as
        select row_number() over (order by key) as position, *
        from plan.changes
        where object = $object and (action = 'delete') = $deletes and not (
            $deletes and object = 'opportunities' and json_extract_string(key, '$.externalOpportunityId') in (
                select json_extract_string(key, '$.externalOpportunityId')
                from ledger.records
                where object = 'opportunities/roles' and (held or state = 'sent')
            )
        )
        """,
        {"object": object_name, "deletes": deletes},
    )
    counts: dict[str, int] = {}

    def call(batch: Batch) -> list[RecordResult]:
        if deletes:
            return client.delete(object_name, batch.records)
        return client.upsert(object_name, batch.records)

    def settle(batch: Batch, results: list[RecordResult]) -> None:
        answers = [_answer(batch.first + n, result, deletes=deletes) for n, result in enumerate(results)]
        ledger.note_answers(answers)
        if not deletes:
            _heal(ledger, object_name, batch, results)
        for answer, result in zip(answers, results, strict=True):
            kind = "rejected" if not answer.done else "deleted" if deletes else result.status
            counts[kind] = counts.get(kind, 0) + 1

    run_calls(_batches(client, ledger, deadline), call, settle, at_once=AT_ONCE)
    return counts


def _batches(client: MarketoClient, ledger: Ledger, deadline: Deadline) -> Iterator[Batch]:
    """The records of `plan.step`, call by call; each is noted as sent before it leaves."""
    ((last,),) = rows_of(ledger.connection, "select coalesce(max(position), 0) from plan.step")
    for first in range(1, last + 1, MOST_RECORDS):
        rows = rows_of(
            ledger.connection,
            "select key, fields, action from plan.step where position between ? and ? order by position",
            [first, first + MOST_RECORDS - 1],
        )
        held = [action == "update" for _, _, action in rows]
        position = first
        for records in client.batches(
            msgspec.json.decode(key) | msgspec.json.decode(fields or "{}") for key, fields, _ in rows
        ):
            if deadline.passed():
                return
            ledger.note_sent(position, position + len(records) - 1)
            yield Batch(position, records, held[position - first : position - first + len(records)])
            position += len(records)


def _answer(position: int, result: RecordResult, *, deletes: bool) -> Answer:
    done = result.status != "skipped" or (deletes and result.code == OBJECT_ABSENT)
    return Answer(position, done, result.marketo_id, result.code, result.message)


def _heal(ledger: Ledger, object_name: str, batch: Batch, results: Sequence[RecordResult]) -> None:
    """Learn from answers that show that somebody else changed what Marketo holds."""
    pairs = list(zip(batch.records, results, strict=True))
    if object_name == ROLES:
        ledger.forget_leads([record["leadId"] for record, result in pairs if result.code == LEAD_ABSENT])
        ledger.doubt_opportunities(
            [record["externalOpportunityId"] for record, result in pairs if result.code == OBJECT_ABSENT]
        )
    elif object_name == "opportunities":
        ledger.doubt_roles(
            [
                record["externalOpportunityId"]
                for (record, result), held in zip(pairs, batch.was_held, strict=True)
                if held and result.status == "created"
            ]
        )
