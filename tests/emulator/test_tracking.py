from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

TRACK = "odata.track-changes"


def _deal(number: int) -> str:
    return f"00000000-0000-4000-8000-0000000d{number:04x}"


def _full(client: Any, path: str = "opportunities?$select=name", size: int = 5000) -> str:
    pages = client.pages(path, prefer=f"{TRACK},odata.maxpagesize={size}")
    link: str = pages[-1]["@odata.deltaLink"]
    return link


def _changes(client: Any, link: str, size: int = 5000) -> tuple[list[dict[str, Any]], list[str], str]:
    """Upserts, ids of deletes and the next delta link of a delta answer, in all its pages."""
    pages = client.pages(link, prefer=f"odata.maxpagesize={size}")
    rows = [row for page in pages for row in page["value"]]
    gone = [row["id"] for row in rows if row.get("reason") == "deleted"]
    return [row for row in rows if "reason" not in row], gone, pages[-1]["@odata.deltaLink"]


def test_the_delta_link_comes_on_the_last_page_only(client: Any) -> None:
    pages = client.pages("opportunities?$select=name", prefer=f"{TRACK},odata.maxpagesize=5")
    assert ["@odata.deltaLink" in page for page in pages] == [False, False, True]
    link = pages[-1]["@odata.deltaLink"]
    prefix = re.escape(f"{client.emulator.url}/api/data/v9.2/opportunities?$select=name&$deltatoken=")
    assert re.fullmatch(prefix + r"\d+%21\d\d%2f\d\d%2f\d{4}%20\d\d%3a\d\d%3a\d\d", link)


def test_without_the_preference_there_is_no_delta_link(client: Any) -> None:
    assert "@odata.deltaLink" not in client.json("opportunities")


def test_no_change_is_an_empty_delta_with_a_link_that_works_again(client: Any) -> None:
    rows, gone, link = _changes(client, _full(client))
    assert (rows, gone) == ([], [])
    assert _changes(client, link)[:2] == ([], [])


def test_a_delta_answer_has_creates_and_updates_before_deletes(client: Any) -> None:
    link = _full(client)
    client.emulator.store.delete("opportunity", _deal(1))
    client.emulator.store.update("opportunity", _deal(2), {"name": "New name"})
    created = client.emulator.store.create("opportunity", {"name": "Created"})
    document = client.json(link)
    assert document["@odata.context"].endswith("$metadata#opportunities(name)/$delta")
    assert list(document) == ["@odata.context", "@odata.deltaLink", "value"]
    upserts, deletes = document["value"][:2], document["value"][2:]
    assert [(row["opportunityid"], row["name"]) for row in upserts] == [(_deal(2), "New name"), (created, "Created")]
    context = f"{client.emulator.url}/api/data/v9.2/$metadata#opportunities/$deletedEntity"
    assert deletes == [{"@odata.context": context, "id": _deal(1), "reason": "deleted"}]


def test_a_row_changed_and_then_deleted_shows_only_as_deleted(client: Any) -> None:
    link = _full(client)
    client.emulator.store.update("opportunity", _deal(1), {"name": "x"})
    client.emulator.store.delete("opportunity", _deal(1))
    rows, gone, _ = _changes(client, link)
    assert (rows, gone) == ([], [_deal(1)])


def test_a_row_created_and_deleted_between_two_polls_still_shows_as_deleted(client: Any) -> None:
    link = _full(client)
    created = client.emulator.store.create("opportunity", {"name": "short-lived"})
    client.emulator.store.delete("opportunity", created)
    assert _changes(client, link)[:2] == ([], [created])


def test_a_row_deleted_and_restored_with_its_id_shows_as_a_row(client: Any) -> None:
    link = _full(client)
    client.emulator.store.delete("opportunity", _deal(1))
    client.emulator.store.create("opportunity", {"opportunityid": _deal(1), "name": "restored"})
    rows, gone, _ = _changes(client, link)
    assert ([row["name"] for row in rows], gone) == (["restored"], [])


def test_a_change_outside_the_selected_columns_is_reported_too(client: Any) -> None:
    link = _full(client)
    client.emulator.store.update("opportunity", _deal(1), {"description": "x"})
    assert [row["opportunityid"] for row in _changes(client, link)[0]] == [_deal(1)]


def test_changes_made_while_paging_a_full_read_come_with_the_next_delta(client: Any) -> None:
    prefer = f"{TRACK},odata.maxpagesize=5"
    first = client.json("opportunities?$select=name", prefer=prefer)
    client.emulator.store.update("opportunity", _deal(1), {"name": "after its page"})
    client.emulator.store.update("opportunity", _deal(12), {"name": "before its page"})
    client.emulator.store.delete("opportunity", _deal(11))
    rest = client.pages(first["@odata.nextLink"], prefer=prefer)
    assert "before its page" in [row["name"] for page in rest for row in page["value"]]
    rows, gone, _ = _changes(client, rest[-1]["@odata.deltaLink"])
    assert {row["name"] for row in rows} == {"after its page", "before its page"}
    assert gone == [_deal(11)]


def test_delta_answers_are_paged_and_changes_meanwhile_wait_for_the_next_one(client: Any) -> None:
    link = _full(client)
    for number in range(1, 8):
        client.emulator.store.update("opportunity", _deal(number), {"name": f"changed {number}"})
    for number in range(8, 13):
        client.emulator.store.delete("opportunity", _deal(number))
    first = client.json(link, prefer="odata.maxpagesize=3")
    assert "@odata.deltaLink" not in first
    client.emulator.store.update("opportunity", _deal(1), {"name": "later"})
    client.emulator.store.update("opportunity", _deal(7), {"name": "later"})
    pages = [first, *client.pages(first["@odata.nextLink"], prefer="odata.maxpagesize=3")]
    assert [len(page["value"]) for page in pages[:-1]] == [3] * (len(pages) - 1)
    items = [item for page in pages for item in page["value"]]
    kinds = ["reason" in item for item in items]
    assert kinds == sorted(kinds)
    names = [item["name"] for item in items if "reason" not in item]
    assert names == [f"changed {number}" for number in range(1, 7)]  # 7 changed again: not lost, see below
    assert {item["id"] for item in items if "reason" in item} == {_deal(number) for number in range(8, 13)}
    rows, _, _ = _changes(client, pages[-1]["@odata.deltaLink"])
    assert {row["opportunityid"] for row in rows} == {_deal(1), _deal(7)}


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 100])
def test_every_page_size_gives_the_same_delta(client: Any, size: int) -> None:
    link = _full(client)
    for number in range(1, 5):
        client.emulator.store.update("opportunity", _deal(number), {"name": f"changed {number}"})
    for number in range(9, 12):
        client.emulator.store.delete("opportunity", _deal(number))
    rows, gone, _ = _changes(client, link, size)
    assert [row["opportunityid"] for row in rows] == [_deal(n) for n in range(1, 5)]
    assert gone == [_deal(n) for n in range(9, 12)]


@pytest.mark.parametrize(
    "option", ["$filter=statecode eq 1", "$orderby=name", "$expand=ownerid", "$top=3", "$count=true"]
)
def test_options_that_do_not_go_with_tracking_are_refused(client: Any, option: str) -> None:
    status, code, message = client.refused(f"opportunities?{option}", prefer=TRACK)
    assert (status, code) == (400, "0x80060888")
    assert option.partition("=")[0] in message
    assert client.refused(f"{_full(client)}&{option}")[0] == 400


def test_a_table_without_tracking_says_so(client: Any) -> None:
    link = _full(client)
    client.emulator.set_change_tracking("opportunity", False)
    expected = (400, "0x80072491", "Entity opportunity isn't enabled for change tracking.")
    assert client.refused("opportunities", prefer=TRACK) == expected
    assert client.refused(link) == expected
    assert client.get("opportunities").status_code == 200
    assert client.get("accounts", prefer=TRACK).status_code == 200


def test_an_expired_token_says_full_sync_and_a_new_one_works(client: Any) -> None:
    old, accounts = _full(client), _full(client, "accounts?$select=name")
    client.emulator.expire_change_tracking("opportunity")
    status, code, message = client.refused(old)
    assert (status, code) == (400, "0x80044352")
    assert "full sync" in message
    assert client.get(accounts).status_code == 200
    assert client.get(_full(client)).status_code == 200


def test_a_token_expires_after_seven_days(client: Any) -> None:
    link = _full(client)
    client.emulator.advance_clock(6.9 * 86400)
    client.login()
    assert client.get(link).status_code == 200
    client.emulator.advance_clock(0.2 * 86400)
    client.login()
    assert client.refused(link)[1] == "0x80044352"


@pytest.mark.parametrize("token", ["rubbish", "999999999%2101%2f01%2f2026%2000%3a00%3a00", "5"])
def test_a_token_that_was_never_given_out_is_expired(client: Any, token: str) -> None:
    assert client.refused(f"opportunities?$deltatoken={token}")[1] == "0x80044352"


def test_waiting_changes_can_be_counted(client: Any) -> None:
    link = _full(client, "opportunities")
    client.emulator.store.update("opportunity", _deal(1), {"name": "x"})
    client.emulator.store.delete("opportunity", _deal(2))
    token = link.partition("?")[2]
    assert client.get(f"opportunities/$count?{token}").text == "2"


def test_tokens_stay_valid_across_a_restart_on_another_port(start: Callable[..., Any], tmp_path: Path) -> None:
    first = start(state_dir=tmp_path / "state")
    link = _full(first)
    first.emulator.store.update("opportunity", _deal(1), {"name": "before"})
    second = start(state_dir=tmp_path / "state")
    assert second.emulator.url != first.emulator.url
    second.emulator.store.update("opportunity", _deal(2), {"name": "after"})
    moved = link.replace(first.emulator.url, second.emulator.url)
    assert [row["name"] for row in _changes(second, moved)[0]] == ["before", "after"]


def test_unreported_writes_happen_but_no_delta_answer_shows_them_until_the_row_is_written_again(client: Any) -> None:
    link = _full(client)
    lost: list[dict[str, Any]] = [
        {"op": "delete", "table": "opportunity", "id": _deal(1)},
        {"op": "update", "table": "opportunity", "id": _deal(2), "values": {"name": "Lost"}},
        {"op": "create", "table": "opportunity", "values": {"name": "Lost too"}},
    ]
    *_, created = client.emulator.store.apply([{**operation, "reported": False} for operation in lost])
    names = {row["opportunityid"]: row["name"] for row in client.json("opportunities?$select=name")["value"]}
    assert (names.get(_deal(1)), names[_deal(2)], names[created]) == (None, "Lost", "Lost too")
    assert _changes(client, link)[:2] == ([], [])
    token = link.partition("$deltatoken=")[2]
    assert client.json(f"opportunities/$count?$deltatoken={token}") == 0
    client.emulator.store.update("opportunity", created, {"name": "Written again"})
    rows, gone, _ = _changes(client, link)
    assert ([row["opportunityid"] for row in rows], gone) == ([created], [])
