"""Facts of the pages Opportunities (search) and of one opportunity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from opportunity_sync.explain import HEADINGS, facts
from opportunity_sync.pages.live import Live
from opportunity_sync.pages.releases import release_ids
from opportunity_sync.pages.timeline import Event, timeline

FOUND = 50
"""Opportunities that a search shows at most."""
SHOWN = "opportunity_id, name, account_name, state, amount, close_date, modified_at"

EXPLAINED = {"account": (1, 2, 3, 4, 5), "roles": (6, 7)}
"""Steps of the explanation that lead to the account, and to the contact roles."""


@dataclass(frozen=True)
class Found:
    """What a search found, last modified first."""

    opportunities: list[dict[str, Any]]
    has_more: bool


@dataclass(frozen=True)
class OpportunityFacts:
    """One opportunity: as it is, or as the last release had it that did."""

    opportunity: dict[str, Any]
    additional: dict[str, Any]
    """Columns that somebody added in `tables.yaml`."""
    gone_since: datetime | None
    """First release that no longer had it; None: it is in the live release."""
    contact_roles: list[dict[str, Any]]
    steps: dict[str, list[tuple[str, list[dict[str, Any]]]]]
    """Per part (`account`, `roles`) headings with the steps that led there."""
    events: list[Event]
    """Newest first."""
    release_ids: dict[datetime, str]
    began_at: datetime


def search(live: Live, text: str) -> Found:
    """Opportunities whose name contains a text, in any case, or whose id it is; without a text those modified last."""
    key, parameters = as_id(text), list[Any]()
    if key is not None:
        where, parameters = "opportunity_id = ?", [key]
    elif text:
        # Not `like`: what somebody typed is text, not a pattern. Rows are fetched only for what is shown.
        where, parameters = "contains(lower(name), lower(?))", [text]
    else:
        where = "true"
    rows = live.rows(
        f"""
        select {SHOWN} from opportunities
        where rowid in (
            select rowid from opportunities where {where} order by modified_at desc, rowid limit {FOUND + 1}
        )
        order by modified_at desc, opportunity_id
        """,
        parameters,
    )
    return Found(rows[:FOUND], has_more=len(rows) > FOUND)


def as_id(text: str) -> UUID | None:
    """An id as people write it, 32 hexadecimal digits with hyphens; None for anything else."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text.lower() else None


def opportunity_facts(live: Live, key: UUID) -> OpportunityFacts | None:
    """One opportunity; None when no release since the history began had it."""
    versions = live.rows("select * from opportunities_history where opportunity_id = ? order by valid_from", [key])
    if not versions:
        return None
    roles = live.rows(
        """
        select history.*, contacts.full_name
        from opportunity_contact_roles_history as history
        left join contacts on contacts.contact_id = history.contact_id
        where history.opportunity_id = ? order by history.valid_from
        """,
        [key],
    )
    newest = versions[-1]
    explained = facts(live.connection, key) if newest["is_current"] else {"contact_roles": [], "steps": []}
    began_at = live.value("select began_at from history.beginning")
    events = timeline(versions, roles, began_at)
    return OpportunityFacts(
        opportunity=newest,
        additional=_additional(live, newest),
        gone_since=None if newest["is_current"] else newest["valid_to"].replace(tzinfo=UTC),
        contact_roles=explained["contact_roles"],
        steps={part: _steps(explained["steps"], numbers) for part, numbers in EXPLAINED.items()},
        events=events,
        release_ids=release_ids(live, [event.at for event in events]),
        began_at=began_at,
    )


def _steps(found: Sequence[dict[str, Any]], numbers: Sequence[int]) -> list[tuple[str, list[dict[str, Any]]]]:
    headed = ((HEADINGS[number], [step for step in found if step["step"] == number]) for number in numbers)
    return [(heading, steps) for heading, steps in headed if steps]


def _additional(live: Live, newest: dict[str, Any]) -> dict[str, Any]:
    """Columns behind the last one that every release has."""
    names = [name for name in newest if name not in ("valid_from", "valid_to", "is_current")]
    return {name: newest[name] for name in names[names.index("merged_customer_id") + 1 :]}
