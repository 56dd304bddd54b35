"""What is sent, in which order, and what the ledger makes of the answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opportunity_sync.errors import DataRootError, ReleaseError, TooManyDeletesError
from opportunity_sync.marketo.errors import MarketoRefusedError, MarketoServiceError, NativeSyncOnError
from opportunity_sync.marketo_load import Load, load
from opportunity_sync.marketo_load.ledger import open_ledger
from opportunity_sync.settings import Settings
from tests.marketo_load.instances import ROLES, FakeMarketo
from tests.marketo_load.releases import contact, key, opportunity, publish, role, settings_for

pytestmark = pytest.mark.slow


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path / "data")


@pytest.fixture
def marketo() -> FakeMarketo:
    return FakeMarketo()


def send(marketo: FakeMarketo, settings: Settings, **options: Any) -> Load:
    return load(marketo, settings, **options)  # type: ignore[arg-type]  # the fake has the client's interface


def test_a_first_load_brings_opportunities_with_their_fields_and_roles(
    settings: Settings, marketo: FakeMarketo
) -> None:
    lead = marketo.add_lead(email="C1@example.com")
    publish(
        settings,
        opportunities=[opportunity("o1", amount_base=None)],
        opportunity_contact_roles=[role("o1", "c1", "Potential Customer", is_primary=True, connected_at=None)],
        contacts=[contact("c1")],
    )
    done = send(marketo, settings)
    assert done.sent == {"opportunities": {"created": 1}, ROLES: {"created": 1}}
    assert marketo.records["opportunities"] == {
        (key("o1"),): {
            "externalOpportunityId": key("o1"),
            "name": "Deal o1",
            "stage": "Open",
            "closeDate": "2026-09-01",
            "isClosed": False,
            "isWon": False,
            "probability": 40,
            "externalCreatedDate": "2026-01-02T03:04:05Z",
        }
    }
    assert marketo.records[ROLES] == {
        (key("o1"), lead, "Potential Customer"): {
            "externalOpportunityId": key("o1"),
            "leadId": lead,
            "role": "Potential Customer",
            "isPrimary": True,
            "externalCreatedDate": "2026-01-02T03:04:05Z",
        }
    }


def test_a_second_load_of_the_same_release_writes_nothing(settings: Settings, marketo: FakeMarketo) -> None:
    marketo.add_lead(email="c1@example.com")
    publish(
        settings,
        opportunities=[opportunity("o1")],
        opportunity_contact_roles=[role("o1", "c1")],
        contacts=[contact("c1")],
    )
    send(marketo, settings)
    marketo.calls.clear()
    assert send(marketo, settings).sent == {"opportunities": {}, ROLES: {}}
    assert {kind for kind, _, _ in marketo.calls} == {"describe"}


def test_only_what_changed_is_sent_and_an_emptied_column_empties_the_field(
    settings: Settings, marketo: FakeMarketo
) -> None:
    publish(settings, opportunities=[opportunity("o1"), opportunity("o2")])
    send(marketo, settings)
    publish(settings, "r2", opportunities=[opportunity("o1"), opportunity("o2", amount_base=None)])
    marketo.calls.clear()
    assert send(marketo, settings).sent["opportunities"] == {"updated": 1}
    assert marketo.writes() == [("upsert", "opportunities", 1)]
    assert "amount" not in marketo.records["opportunities"][key("o2"),]


def test_a_changed_role_text_creates_the_new_role_before_the_old_one_goes(
    settings: Settings, marketo: FakeMarketo
) -> None:
    lead = marketo.add_lead(email="c1@example.com")
    rows: dict[str, Any] = {"opportunities": [opportunity("o1")], "contacts": [contact("c1")]}
    publish(settings, opportunity_contact_roles=[role("o1", "c1", "Champion")], **rows)
    send(marketo, settings)
    publish(settings, "r2", opportunity_contact_roles=[role("o1", "c1", "Decision Maker")], **rows)
    marketo.calls.clear()
    send(marketo, settings)
    assert marketo.writes() == [("upsert", ROLES, 1), ("delete", ROLES, 1)]
    assert marketo.keys(ROLES) == {(key("o1"), lead, "Decision Maker")}


def test_roles_go_before_their_opportunity(settings: Settings, marketo: FakeMarketo) -> None:
    marketo.add_lead(email="c1@example.com")
    publish(
        settings,
        opportunities=[opportunity("o1")],
        opportunity_contact_roles=[role("o1", "c1")],
        contacts=[contact("c1")],
    )
    send(marketo, settings)
    publish(settings, "r2")
    marketo.calls.clear()
    send(marketo, settings)
    assert marketo.writes() == [("delete", ROLES, 1), ("delete", "opportunities", 1)]
    assert marketo.keys(ROLES) == marketo.keys("opportunities") == set()


def test_an_opportunity_stays_as_long_as_one_of_its_roles_does(settings: Settings, marketo: FakeMarketo) -> None:
    marketo.add_lead(email="c1@example.com")
    publish(
        settings,
        opportunities=[opportunity("o1")],
        opportunity_contact_roles=[role("o1", "c1")],
        contacts=[contact("c1")],
    )
    send(marketo, settings)
    publish(settings, "r2")
    marketo.refuse = lambda name, record: 1003 if name == ROLES else None
    marketo.calls.clear()
    send(marketo, settings)
    assert ("delete", "opportunities", 1) not in marketo.writes()
    assert len(marketo.keys("opportunities")) == 1


def test_a_role_waits_for_its_lead_and_is_sent_when_it_appears(settings: Settings, marketo: FakeMarketo) -> None:
    publish(
        settings,
        opportunities=[opportunity("o1")],
        opportunity_contact_roles=[role("o1", "c1"), role("o1", "c2"), role("o1", "c3")],
        contacts=[contact("c1"), contact("c2", email=None), contact("c3")],
    )
    for _ in range(2):
        marketo.add_lead(email="c3@example.com")
    assert send(marketo, settings).planned[ROLES].parked == {"no_lead": 1, "no_lookup_value": 1, "several_leads": 1}
    lead = marketo.add_lead(email="c1@example.com")
    done = send(marketo, settings)
    assert done.planned[ROLES].parked == {"no_lookup_value": 1, "several_leads": 1}
    assert marketo.keys(ROLES) == {(key("o1"), lead, "Champion")}


def test_an_address_with_more_leads_than_marketo_lists_does_not_hide_the_others(
    settings: Settings, marketo: FakeMarketo
) -> None:
    names = [f"c{n}" for n in range(5)]
    leads = [marketo.add_lead(email=f"{name}@example.com") for name in names]
    lookup = marketo.lookup

    def crowded(obj: str, field: str, values: Any, fields: Any) -> Any:
        if "c3@example.com" in values:
            raise MarketoRefusedError("Marketo answered 1003", action="Look it up", code=1003)
        return lookup(obj, field, values, fields)

    marketo.lookup = crowded  # type: ignore[method-assign]
    publish(
        settings,
        opportunities=[opportunity("o1")],
        opportunity_contact_roles=[role("o1", name) for name in names],
        contacts=[contact(name) for name in names],
    )
    assert send(marketo, settings).planned[ROLES].parked == {"several_leads": 1}
    assert {lead for _, lead, _ in marketo.keys(ROLES)} == {*leads} - {leads[3]}


def test_only_so_many_contacts_without_a_lead_are_asked_for_again_the_longest_waiting_first(
    tmp_path: Path, marketo: FakeMarketo, edit_rules: Callable[[str, str], Path]
) -> None:
    settings = settings_for(tmp_path / "data", include=edit_rules("asked_again: 6000", "asked_again: 2"))
    names = [f"c{n}" for n in range(5)]
    publish(
        settings,
        opportunities=[opportunity("o1")],
        opportunity_contact_roles=[role("o1", name) for name in names],
        contacts=[contact(name) for name in names],
    )
    send(marketo, settings)
    for name in names:
        marketo.add_lead(email=f"{name}@example.com")
    assert [send(marketo, settings).sent[ROLES].get("created", 0) for _ in range(4)] == [2, 2, 1, 0]


def test_a_known_lead_stays_the_contacts_when_its_new_address_finds_none(
    settings: Settings, marketo: FakeMarketo
) -> None:
    lead = marketo.add_lead(email="c1@example.com")
    rows: dict[str, Any] = {
        "opportunities": [opportunity("o1")],
        "opportunity_contact_roles": [role("o1", "c1")],
    }
    publish(settings, contacts=[contact("c1")], **rows)
    send(marketo, settings)
    publish(settings, "r2", contacts=[contact("c1", email="new@example.com")], **rows)
    send(marketo, settings)
    assert marketo.keys(ROLES) == {(key("o1"), lead, "Champion")}
    other = marketo.add_lead(email="newer@example.com")
    publish(settings, "r3", contacts=[contact("c1", email="newer@example.com")], **rows)
    send(marketo, settings)
    assert marketo.keys(ROLES) == {(key("o1"), other, "Champion")}


def test_a_lead_that_is_gone_is_looked_up_again(settings: Settings, marketo: FakeMarketo) -> None:
    lead = marketo.add_lead(email="c1@example.com")
    rows: dict[str, Any] = {"opportunities": [opportunity("o1")], "contacts": [contact("c1")]}
    publish(settings, opportunity_contact_roles=[role("o1", "c1")], **rows)
    send(marketo, settings)
    del marketo.records["leads"][lead,]
    del marketo.records[ROLES][key("o1"), lead, "Champion"]
    merged_into = marketo.add_lead(email="c1@example.com")
    publish(settings, "r2", opportunity_contact_roles=[role("o1", "c1", is_primary=True)], **rows)
    assert send(marketo, settings).sent[ROLES] == {"rejected": 1}
    send(marketo, settings)
    assert marketo.keys(ROLES) == {(key("o1"), merged_into, "Champion")}
    with open_ledger(settings, marketo.base_url) as ledger:
        kept = ledger.connection.execute("select state, held from ledger.records order by object").fetchall()
    assert kept == [("confirmed", True), ("confirmed", True)]


def test_contacts_that_share_a_lead_share_a_role(settings: Settings, marketo: FakeMarketo) -> None:
    lead = marketo.add_lead(email="office@example.com")
    publish(
        settings,
        opportunities=[opportunity("o1")],
        opportunity_contact_roles=[role("o1", "c1"), role("o1", "c2", is_primary=True)],
        contacts=[contact(name, email="office@example.com") for name in ("c1", "c2")],
    )
    send(marketo, settings)
    assert marketo.keys(ROLES) == {(key("o1"), lead, "Champion")}
    assert marketo.records[ROLES][key("o1"), lead, "Champion"]["isPrimary"] is True


def test_long_names_and_roles_are_cut_visibly_and_two_roles_stay_two(settings: Settings, marketo: FakeMarketo) -> None:
    lead = marketo.add_lead(email="c1@example.com")
    long = "Regional vice president of strategic procurement, "
    texts = [f"{long}{region}" for region in ("north", "south")] + [long[:50]]
    publish(
        settings,
        opportunities=[opportunity("o1", name="x" * 300), opportunity("o2", name="é" * 255)],
        opportunity_contact_roles=[role("o1", "c1", text) for text in texts],
        contacts=[contact("c1")],
    )
    done = send(marketo, settings)
    assert (done.planned["opportunities"].cut, done.planned[ROLES].cut) == (1, 2)
    names = {record["name"] for record in marketo.records["opportunities"].values()}
    assert names == {"x" * 254 + "…", "é" * 255}
    sent = sorted(role_text for _, found, role_text in marketo.keys(ROLES) if found == lead)
    assert len(sent) == 3
    assert [len(text) for text in sent] == [50, 50, 50]
    assert [text[:42] for text in sent] == [long[:42]] * 3
    assert sum(" #" in text for text in sent) == 2


def test_a_refused_record_is_kept_with_its_code_and_sent_again_only_when_it_changes(
    settings: Settings, marketo: FakeMarketo
) -> None:
    marketo.add_lead(email="c1@example.com")
    rows: dict[str, Any] = {"opportunity_contact_roles": [role("o1", "c1")], "contacts": [contact("c1")]}
    publish(settings, opportunities=[opportunity("o1", name=None), opportunity("o2")], **rows)
    done = send(marketo, settings)
    assert done.sent == {"opportunities": {"created": 1, "rejected": 1}, ROLES: {}}
    marketo.calls.clear()
    done = send(marketo, settings)
    assert marketo.writes() == []
    assert done.planned["opportunities"].rejected == {"1002": 1}
    assert done.planned[ROLES].parked == {"opportunity_rejected": 1}
    with open_ledger(settings, marketo.base_url) as ledger:
        found = ledger.connection.execute(
            "select code, message, attempts, held from ledger.records where state = 'rejected'"
        ).fetchall()
    assert found == [(1002, "refused", 1, False)]
    publish(settings, "r2", opportunities=[opportunity("o1"), opportunity("o2")], **rows)
    assert send(marketo, settings).sent == {"opportunities": {"created": 1}, ROLES: {"created": 1}}


def test_a_refused_update_leaves_the_record_to_be_deleted_later(settings: Settings, marketo: FakeMarketo) -> None:
    publish(settings, opportunities=[opportunity("o1")])
    send(marketo, settings)
    publish(settings, "r2", opportunities=[opportunity("o1", name=None)])
    assert send(marketo, settings).sent["opportunities"] == {"rejected": 1}
    publish(settings, "r3")
    assert send(marketo, settings).sent["opportunities"] == {"deleted": 1}
    assert marketo.keys("opportunities") == set()


def test_what_is_gone_already_counts_as_deleted(settings: Settings, marketo: FakeMarketo) -> None:
    publish(settings, opportunities=[opportunity("o1")])
    send(marketo, settings)
    marketo.records["opportunities"].clear()
    publish(settings, "r2")
    assert send(marketo, settings).sent["opportunities"] == {"deleted": 1}
    assert send(marketo, settings).planned["opportunities"].delete == 0


def test_roles_come_back_with_an_opportunity_that_somebody_deleted_in_marketo(
    settings: Settings, marketo: FakeMarketo
) -> None:
    lead = marketo.add_lead(email="c1@example.com")
    rows: dict[str, Any] = {"opportunity_contact_roles": [role("o1", "c1")], "contacts": [contact("c1")]}
    publish(settings, opportunities=[opportunity("o1")], **rows)
    send(marketo, settings)
    marketo.records["opportunities"].clear()
    marketo.records[ROLES].clear()
    publish(settings, "r2", opportunities=[opportunity("o1", name="changed")], **rows)
    assert send(marketo, settings).sent == {"opportunities": {"created": 1}, ROLES: {"created": 1}}
    assert marketo.keys(ROLES) == {(key("o1"), lead, "Champion")}


def test_an_opportunity_found_missing_by_its_role_is_sent_again(settings: Settings, marketo: FakeMarketo) -> None:
    marketo.add_lead(email="c1@example.com")
    marketo.add_lead(email="c2@example.com")
    rows: dict[str, Any] = {"opportunities": [opportunity("o1")], "contacts": [contact("c1"), contact("c2")]}
    publish(settings, opportunity_contact_roles=[role("o1", "c1")], **rows)
    send(marketo, settings)
    marketo.records["opportunities"].clear()
    marketo.records[ROLES].clear()
    publish(settings, "r2", opportunity_contact_roles=[role("o1", "c1"), role("o1", "c2")], **rows)
    assert send(marketo, settings).sent == {"opportunities": {}, ROLES: {"rejected": 1}}
    assert send(marketo, settings).sent == {"opportunities": {"created": 1}, ROLES: {"created": 2}}


def test_nothing_is_sent_to_an_instance_with_native_crm_sync(settings: Settings, marketo: FakeMarketo) -> None:
    publish(settings, opportunities=[opportunity("o1")])
    marketo.native_sync = True
    with pytest.raises(NativeSyncOnError, match="native CRM sync on"):
        send(marketo, settings)
    assert marketo.writes() == []


def test_too_many_deletes_wait_for_a_persons_word(settings: Settings, marketo: FakeMarketo) -> None:
    many = [opportunity(f"o{n}") for n in range(100)]
    publish(settings, opportunities=many)
    send(marketo, settings)
    publish(settings, "r2", opportunities=[*many[:79], opportunity("new")])
    marketo.calls.clear()
    with pytest.raises(TooManyDeletesError, match="delete 21 of 100 opportunities from Marketo, more than 20%"):
        send(marketo, settings)
    assert marketo.writes() == []
    assert send(marketo, settings, accept_deletes=True).sent["opportunities"] == {"created": 1, "deleted": 21}


def test_renaming_a_role_everywhere_is_no_mass_delete(settings: Settings, marketo: FakeMarketo) -> None:
    names = [f"c{n}" for n in range(30)]
    for name in names:
        marketo.add_lead(email=f"{name}@example.com")
    rows: dict[str, Any] = {"opportunities": [opportunity("o1")], "contacts": [contact(name) for name in names]}
    publish(settings, opportunity_contact_roles=[role("o1", name) for name in names], **rows)
    send(marketo, settings)
    publish(settings, "r2", opportunity_contact_roles=[role("o1", name, "Sponsor") for name in names], **rows)
    assert send(marketo, settings).sent[ROLES] == {"created": 30, "deleted": 30}


def test_a_load_stops_before_the_quota_and_the_next_one_continues(settings: Settings, marketo: FakeMarketo) -> None:
    publish(settings, opportunities=[opportunity(f"o{n}") for n in range(700)])
    marketo.calls_left = 4
    done = send(marketo, settings)
    assert done.stopped == "daily_calls"
    assert len(marketo.keys("opportunities")) == 300
    assert send(marketo, settings).stopped == "daily_calls", "not even the probe may fail the run"
    marketo.calls_left = None
    marketo.calls.clear()
    assert send(marketo, settings).stopped is None
    assert marketo.writes() == [("upsert", "opportunities", 300), ("upsert", "opportunities", 100)]


def test_a_load_ends_in_time_for_the_next_run(tmp_path: Path, marketo: FakeMarketo) -> None:
    settings = settings_for(tmp_path / "data", marketo_minutes=0.000001)
    publish(settings, opportunities=[opportunity("o1")])
    assert send(marketo, settings).stopped == "time"
    assert marketo.writes() == []
    assert send(marketo, settings_for(tmp_path / "data")).sent["opportunities"] == {"created": 1}


def test_a_failed_call_keeps_what_others_confirmed(settings: Settings, marketo: FakeMarketo) -> None:
    publish(settings, opportunities=[opportunity(f"o{n}") for n in range(900)])

    def fail_second(kind: str, name: str) -> None:
        if len(marketo.keys("opportunities")) >= 300:
            raise MarketoServiceError("Marketo answered 611", action="Run again later")

    marketo.before = fail_second
    with pytest.raises(MarketoServiceError):
        send(marketo, settings)
    marketo.before = lambda kind, name: None
    sent = len(marketo.keys("opportunities"))
    assert sent == 300
    marketo.calls.clear()
    send(marketo, settings)
    assert len(marketo.keys("opportunities")) == 900
    assert sum(size for _, _, size in marketo.writes()) == 600


@pytest.mark.parametrize("then", ["wanted", "changed", "reverted", "gone"])
def test_a_write_whose_answer_was_lost_ends_right_whatever_happens_next(
    settings: Settings, marketo: FakeMarketo, then: str
) -> None:
    publish(settings, opportunities=[opportunity("o1")])
    send(marketo, settings)

    def lose(kind: str, name: str) -> None:
        raise MarketoServiceError("No complete answer", action="Run again later")

    marketo.after = lose
    publish(settings, "r2", opportunities=[opportunity("o1", name="second"), opportunity("o2")])
    with pytest.raises(MarketoServiceError):
        send(marketo, settings)
    marketo.after = lambda kind, name: None
    rows = {
        "wanted": [opportunity("o1", name="second"), opportunity("o2")],
        "changed": [opportunity("o1", name="third"), opportunity("o2", name="third")],
        "reverted": [opportunity("o1"), opportunity("o2")],
        "gone": [],
    }[then]
    publish(settings, "r3", opportunities=rows)
    send(marketo, settings)
    assert {found[0]: record["name"] for found, record in marketo.records["opportunities"].items()} == {
        key(row["opportunity_id"]): row["name"] for row in rows
    }
    marketo.calls.clear()
    send(marketo, settings)
    assert marketo.writes() == []


def test_a_create_that_may_have_arrived_and_was_refused_later_is_deleted_when_no_longer_wanted(
    settings: Settings, marketo: FakeMarketo
) -> None:
    def lose(kind: str, name: str) -> None:
        raise MarketoServiceError("No complete answer", action="Run again later")

    marketo.after = lose
    publish(settings, opportunities=[opportunity("o1")])
    with pytest.raises(MarketoServiceError):
        send(marketo, settings)
    marketo.after = lambda kind, name: None
    publish(settings, "r2", opportunities=[opportunity("o1", name=None)])
    assert send(marketo, settings).sent["opportunities"] == {"rejected": 1}
    publish(settings, "r3")
    assert send(marketo, settings).sent["opportunities"] == {"deleted": 1}
    assert marketo.keys("opportunities") == set()


def test_one_process_at_a_time(settings: Settings, marketo: FakeMarketo, monkeypatch: pytest.MonkeyPatch) -> None:
    import opportunity_sync.marketo_load.ledger as module

    publish(settings)
    monkeypatch.setattr(module, "LOCK_SECONDS", 0)
    with open_ledger(settings, marketo.base_url), pytest.raises(DataRootError, match="Another process") as caught:
        send(marketo, settings)
    assert caught.value.transient


def test_without_a_live_release_nothing_is_asked(settings: Settings, marketo: FakeMarketo) -> None:
    with pytest.raises(ReleaseError, match="no live release"):
        send(marketo, settings)
    assert marketo.calls == []


def test_companies_go_first_and_last(
    tmp_path: Path, marketo: FakeMarketo, edit_rules: Callable[[str, str], Path]
) -> None:
    settings = settings_for(tmp_path / "data", include=edit_rules("load: false", "load: true"))
    publish(settings, opportunities=[opportunity("o1")], accounts=[{"account_id": "a1", "name": "Contoso"}])
    send(marketo, settings)
    assert [name for _, name, _ in marketo.writes()] == ["companies", "opportunities"]
    assert marketo.records["companies"][key("a1"),]["company"] == "Contoso"
    marketo.calls.clear()
    publish(settings, "r2")
    send(marketo, settings)
    assert marketo.writes() == [("delete", "opportunities", 1), ("delete", "companies", 1)]


def test_leads_are_made_where_the_rules_say_so(
    tmp_path: Path, marketo: FakeMarketo, edit_rules: Callable[[str, str], Path]
) -> None:
    include = edit_rules("create: false\n  fields:\n", "create: true\n  fields:\n    lastName: full_name\n")
    settings = settings_for(tmp_path / "data", include=include)
    publish(
        settings,
        opportunities=[opportunity("o1")],
        opportunity_contact_roles=[role("o1", "c1"), role("o1", "c2", "Sponsor"), role("o1", "c3")],
        contacts=[contact("c1"), contact("c2", email="C1@example.com"), contact("c3", email=None)],
    )
    done = send(marketo, settings)
    (made,) = marketo.records["leads"].values()
    assert made["lastName"].startswith("Person c")
    assert {(lead, text) for _, lead, text in marketo.keys(ROLES)} == {
        (made["id"], "Champion"),
        (made["id"], "Sponsor"),
    }
    assert done.planned[ROLES].parked == {"no_lead": 2, "no_lookup_value": 1}
    marketo.calls.clear()
    send(marketo, settings)
    assert marketo.writes() == []
