"""Which sentences the versions of a row become."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from opportunity_sync.pages.timeline import LIMIT, timeline

BEGAN = datetime(2026, 1, 1)  # noqa: DTZ001 (as in the file)


def at(day: int) -> datetime:
    return BEGAN.replace(day=day)


def version(since: int, until: int | None, **columns: Any) -> dict[str, Any]:
    return {
        "name": "Deal", "state_code": 0, "state": "Open", "is_won": False, "version_number": since,
        "modified_at": at(since),
    } | columns | {
        "valid_from": at(since), "valid_to": until and at(until), "is_current": until is None,
    }  # fmt: skip


def role(since: int, until: int | None, text: str = "Champion", **columns: Any) -> dict[str, Any]:
    row = {"contact_id": "c1", "role": text, "full_name": "Ann", "is_primary": False} | columns
    return row | {"valid_from": at(since), "valid_to": until and at(until), "is_current": until is None}


def told(versions: list[dict[str, Any]], roles: list[dict[str, Any]] | None = None) -> list[tuple[int, list[str]]]:
    return [(event.at.day, list(event.sentences)) for event in timeline(versions, roles or [], BEGAN)]


def test_what_was_there_when_the_history_began_is_not_called_new() -> None:
    assert told([version(1, None)]) == [(1, ["Opportunity: here when the history begins"])]
    assert told([version(2, None)]) == [(2, ["Opportunity: new"])]


def test_a_change_names_columns_with_both_values_and_events_are_newest_first() -> None:
    versions = [version(1, 3), version(3, None, name="Better deal")]
    assert told(versions)[0] == (3, ["name: Deal → Better deal"])
    assert [day for day, _ in told(versions)] == [3, 1]


def test_a_label_is_told_and_not_its_code_and_what_follows_from_the_state_is_not_told() -> None:
    versions = [version(1, 2), version(2, None, state_code=1, state="Won", is_won=True)]
    assert told(versions)[0] == (2, ["state: Open → Won"])
    assert told([version(1, 2), version(2, None, state_code=7)])[0] == (2, ["state_code: 0 → 7"])


def test_a_version_without_another_change_says_so() -> None:
    assert told([version(1, 2), version(2, None)])[0] == (
        2,
        ["Opportunity: saved again, no other published column changed"],
    )


def test_a_gap_between_versions_is_a_removal_and_a_return() -> None:
    assert told([version(1, 2), version(4, None, name="Again")])[:2] == [
        (4, ["Opportunity: back again", "name: Deal → Again"]),
        (2, ["Opportunity: removed"]),
    ]


def test_a_row_that_ended_is_removed() -> None:
    assert told([version(1, 5)])[0] == (5, ["Opportunity: removed"])


def test_roles_of_one_contact_are_told_apart_and_stand_with_the_opportunity() -> None:
    roles = [role(1, 3), role(3, None, text="Decider"), role(3, 5, text="Sponsor", full_name=None)]
    found = dict(told([version(1, 3), version(3, None, name="New")], roles))
    assert found[3] == [
        "name: Deal → New",
        "Contact role Champion, Ann: removed",
        "Contact role Decider, Ann: new",
        "Contact role Sponsor, c1: new",
    ]
    assert found[5] == ["Contact role Sponsor, c1: removed"]


def test_a_change_of_a_role_names_its_column() -> None:
    found = dict(told([version(1, None)], [role(1, 2), role(2, None, is_primary=True)]))
    assert found[2] == ["Contact role Champion, Ann: is_primary: no → yes"]


def test_only_the_newest_events_are_shown() -> None:
    moments = [BEGAN.replace(hour=index // 60, minute=index % 60) for index in range(LIMIT + 21)]
    versions = [
        version(1, None) | {"name": f"Deal {index}", "valid_from": moment, "valid_to": moments[index + 1]}
        for index, moment in enumerate(moments[:-1])
    ]
    found = timeline(versions, [], BEGAN)
    assert len(found) == LIMIT
    assert found[0].at == moments[-1]
