from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulator.marketo.control import delete, upsert
from emulator.marketo.instance import Instance
from emulator.marketo.seeding import load_contacts
from tests.stand_in import SAMPLE_DATA

pytestmark = pytest.mark.slow

ROLES = "opportunities/roles"


def _content(instance: Instance) -> dict[str, list[dict[str, Any]]]:
    return {path: list(table) for path, table in instance.tables.items()}


def _fill(instance: Instance) -> None:
    upsert(instance, "leads", [{"email": "a@example.com"}])
    upsert(instance, "companies", [{"externalCompanyId": "a", "company": "Oak"}])
    upsert(instance, "opportunities", [{"externalOpportunityId": key, "name": key} for key in "xyz"])
    upsert(instance, ROLES, [{"externalOpportunityId": "x", "leadId": 1001, "role": "r"}])
    upsert(instance, "opportunities", [{"externalOpportunityId": "y", "stage": "Open"}])
    delete(instance, "opportunities", [{"externalOpportunityId": "z"}])


def test_an_instance_lives_on_in_its_folder(tmp_path: Path) -> None:
    first = Instance(tmp_path)
    assert first.is_new
    first.add_field("opportunities", "dealRegion", "string", 40)
    _fill(first)
    upsert(first, "opportunities", [{"externalOpportunityId": "x", "dealRegion": "North"}])
    first.close()
    second = Instance(tmp_path)
    assert not second.is_new
    assert _content(second) == _content(first)
    assert second.table("opportunities").kind.fields["dealRegion"].length == 40
    assert [len(second.table(ROLES).find(name, value)) for name, value in (("leadId", 1001), ("leadId", 1))] == [1, 0]
    second.close()
    third = Instance(tmp_path)
    assert _content(third) == _content(first)
    assert third.table("opportunities").kind.fields == second.table("opportunities").kind.fields
    third.close()


def test_numbers_are_never_given_twice(tmp_path: Path) -> None:
    first = Instance(tmp_path)
    _fill(first)
    delete(first, "companies", [{"externalCompanyId": "a"}])
    first.close()
    Instance(tmp_path).close()  # writes the journal anew, without the record that had the highest number
    for number in (1003, 1004):
        again = Instance(tmp_path)
        (made,) = upsert(again, "companies", [{"externalCompanyId": str(number), "company": "x"}])
        assert made["id"] == number
        again.close()


def test_a_kill_leaves_every_answered_call_and_no_half_line(tmp_path: Path) -> None:
    first = Instance(tmp_path)
    _fill(first)
    expected = _content(first)
    first.close()
    with (tmp_path / "records.jsonl").open("ab") as stream:  # as a process killed while it writes
        stream.write(b'{"object":"opportunities","record":{"externalOppo')
    second = Instance(tmp_path)
    assert _content(second) == expected
    second.close()


def test_contacts_make_leads_with_gaps_and_one_address_twice() -> None:
    instance = Instance()
    load_contacts(instance, SAMPLE_DATA / "contacts.json")
    contacts = json.loads((SAMPLE_DATA / "contacts.json").read_text(encoding="utf-8"))
    leads = list(instance.table("leads"))
    known = {lead["dynamicsContactId"]: lead for lead in leads if "dynamicsContactId" in lead}
    unmerged = [contact["contactid"] for contact in contacts if not contact.get("merged")]
    assert 0 < len(known) < len(unmerged)
    assert set(known) < set(unmerged)
    assert all(lead["externalPersonId"] == key for key, lead in known.items())
    addresses = [lead["email"].lower() for lead in leads if "email" in lead]
    assert len(addresses) - len(set(addresses)) == 1
    assert any("email" not in lead for lead in leads)


def test_the_custom_field_has_the_name_asked_for(launch: Callable[..., Any]) -> None:
    api = launch(leads=None, contacts=SAMPLE_DATA / "contacts.json", contact_field="crmId")
    contact = "00000000-0000-4000-8000-0000000c0001"
    assert len(api.get("leads.json", filterType="crmId", filterValues=contact)["result"]) == 1


def test_the_seed_is_read_only_when_the_state_is_new(launch: Callable[..., Any], tmp_path: Path) -> None:
    for _ in range(2):
        api = launch(state_dir=tmp_path / "state")
        assert len(api.emulator.records("leads")) == 3
        api.emulator.server.instance.close()


def test_direct_writes_say_what_is_wrong() -> None:
    instance = Instance()
    with pytest.raises(ValueError, match=r"record 1.*1002"):
        upsert(instance, "opportunities", [{"externalOpportunityId": "a", "name": "a"}, {"name": "b"}])
    with pytest.raises(ValueError, match="unknown object"):
        upsert(instance, "deals", [{"name": "a"}])
    with pytest.raises(ValueError, match="1013"):
        delete(instance, "opportunities", [{"externalOpportunityId": "none"}])


def test_direct_writes_pass_native_synchronisation() -> None:
    instance = Instance()
    instance.native_crm_sync = True
    upsert(instance, "opportunities", [{"externalOpportunityId": "a", "name": "a"}])
    assert len(instance.table("opportunities")) == 1
    assert instance.native_crm_sync


def test_controls_do_what_their_names_say(api: Any) -> None:
    assert (
        api.control(
            "POST", "upsert", {"object": "opportunities", "records": [{"externalOpportunityId": "o", "name": "n"}]}
        )[0]
        == 200
    )
    status, body = api.control("POST", "records", {"object": "opportunities"})
    assert (status, [record["name"] for record in body["records"]]) == (200, ["n"])
    status, body = api.control("GET", "health")
    assert body["records"] == {"companies": 0, "leads": 3, "opportunities": 1, "opportunities/roles": 0}
    assert body["url"] == api.emulator.url
    for path, document in (
        ("native_crm_sync", {"on": True}),
        ("access", {"leads": "read"}),
        ("feature", {"object": "companies", "on": False}),
        ("limits", {"daily_quota": 7}),
        ("used_today", {"calls": 5}),
        ("field", {"object": "leads", "name": "other", "type": "string"}),
        ("latency", {"milliseconds": 0}),
        ("clock", {"seconds": 1}),
    ):
        assert api.control("POST", path, document)[0] == 200, path
    server = api.emulator.server
    assert (server.instance.native_crm_sync, server.limits.daily_quota, api.emulator.used_today) == (True, 7, 5)
    assert not server.instance.may("leads", "write")
    assert "other" in server.instance.table("leads").kind.fields
    assert (
        api.control("POST", "delete", {"object": "opportunities", "keys": [{"externalOpportunityId": "o"}]})[0] == 200
    )
    api.get("stats/usage.json")
    counters = api.control("GET", "counters")[1]
    assert (counters["calls"], counters["used_today"], counters["tokens_issued"]) == (1, 6, 1)
    (request,) = api.control("GET", "requests")[1]["requests"]
    assert (request["method"], request["path"], request["status"]) == ("GET", "/rest/v1/stats/usage.json", 200)
    assert api.control("DELETE", "counters")[0] == 200
    assert api.control("GET", "counters")[1]["calls"] == 0
    for action in ("expire_tokens", "revoke_tokens"):
        api.login()
        assert api.control("POST", action)[0] == 200
        assert api.code(api.get("stats/usage.json")) == {"expire_tokens": 602, "revoke_tokens": 601}[action]


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("upsert", {"object": "deals", "records": [{}]}),
        ("upsert", {}),
        ("limits", {"speed": 1}),
        ("access", {"leads": "all"}),
        ("field", {"object": "leads", "name": "email"}),
        ("field", {"object": "leads", "name": "x", "type": "colour"}),
        ("feature", {"object": "deals", "on": True}),
        ("faults", [{"action": "explode"}]),
    ],
)
def test_a_control_that_cannot_work_says_why(api: Any, path: str, document: Any) -> None:
    status, body = api.control("POST", path, document)
    assert status == 400
    assert body["error"]


def test_an_unknown_control_names_the_known_ones(api: Any) -> None:
    status, body = api.control("GET", "nonesuch")
    assert status == 404
    assert "GET /_control/health" in body["known"]


def test_the_log_keeps_no_token_and_bodies_only_when_asked(launch: Callable[..., Any]) -> None:
    record = {"input": [{"email": "secret.person@example.com", "action": "x"}]}
    for keep in (False, True):
        api = launch(keep_bodies=keep)
        api.post("leads.json", record)
        (entry,) = api.emulator.requests
        assert (b"secret.person" in entry.body) is keep
        assert bool(entry.answer) is keep
        token = api.token().json()["access_token"]
        assert token not in repr(entry)
