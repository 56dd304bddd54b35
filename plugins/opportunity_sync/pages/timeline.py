"""What became of one opportunity, release by release: made from its versions and those of its contact roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from opportunity_sync.pages import shown

UNTOLD = frozenset(
    {"valid_from", "valid_to", "is_current", "version_number", "modified_at", "full_name", "is_closed", "is_won"}
)
"""Columns whose change is no news by itself: about the version, or implied by the state."""
LIMIT = 100
"""Events that are shown."""


@dataclass(frozen=True)
class Event:
    """What one release changed."""

    at: datetime
    """When that release was built (UTC, naive as in the file)."""
    sentences: tuple[str, ...]


def timeline(
    versions: Sequence[Mapping[str, Any]], roles: Sequence[Mapping[str, Any]], began_at: datetime
) -> list[Event]:
    """The newest events of an opportunity, newest first.

    Args:
        versions: its rows of `opportunities_history`, oldest first.
        roles: rows of `opportunity_contact_roles_history`, oldest first, with the contact's `full_name`.
        began_at: when the history begins: what was there then is not called new.
    """
    told: dict[datetime, list[str]] = {}
    _tell(told, versions, began_at, "Opportunity")
    by_role: dict[tuple[Any, Any], list[Mapping[str, Any]]] = {}
    for role in roles:
        by_role.setdefault((role["contact_id"], role["role"]), []).append(role)
    for (contact_id, role), found in by_role.items():
        _tell(told, found, began_at, f"Contact role {role}, {found[-1]['full_name'] or contact_id}")
    return [Event(at, tuple(told[at])) for at in sorted(told, reverse=True)[:LIMIT]]


def _tell(
    told: dict[datetime, list[str]], versions: Sequence[Mapping[str, Any]], began_at: datetime, what: str
) -> None:
    """Add what became of one row."""

    def add(at: datetime, sentence: str) -> None:
        told.setdefault(at, []).append(sentence)

    first, last = versions[0], versions[-1]
    was_there = first["valid_from"] == began_at
    add(first["valid_from"], f"{what}: {'here when the history begins' if was_there else 'new'}")
    for before, after in pairwise(versions):
        if before["valid_to"] != after["valid_from"]:
            add(before["valid_to"], f"{what}: removed")
            add(after["valid_from"], f"{what}: back again")
        changed = [name for name in after if name not in UNTOLD and before[name] != after[name]]
        for column in changed:
            if column.removesuffix("_code") == column or column.removesuffix("_code") not in changed:  # label says it
                name = column if what == "Opportunity" else f"{what}: {column}"
                add(after["valid_from"], f"{name}: {shown(before[column])} \N{RIGHTWARDS ARROW} {shown(after[column])}")
        if not changed:
            add(after["valid_from"], f"{what}: saved again, no other published column changed")
    if last["valid_to"] is not None:
        add(last["valid_to"], f"{what}: removed")
