from __future__ import annotations

from typing import Any

import pytest

from emulator.marketo.writing import MOST_RECORDS

pytestmark = pytest.mark.slow

ADA, BO = 1001, 1002
ROLES = "opportunities/roles"


def _role(**changes: Any) -> dict[str, Any]:
    return {"externalOpportunityId": "o1", "leadId": ADA, "role": "Champion", **changes}


def test_created_then_updated_with_the_same_id_in_input_order(api: Any) -> None:
    records = [{"externalOpportunityId": key, "name": key} for key in ("b", "a")]
    first = api.post("opportunities.json", {"input": records})["result"]
    second = api.post("opportunities.json", {"input": list(reversed(records))})["result"]
    assert [item["status"] for item in first + second] == ["created"] * 2 + ["updated"] * 2
    assert [item["seq"] for item in first + second] == [0, 1, 0, 1]
    assert [item["marketoGUID"] for item in second] == [item["marketoGUID"] for item in reversed(first)]


def test_an_update_leaves_other_fields_alone_and_null_or_empty_text_blanks(api: Any) -> None:
    api.sync("opportunities", [{"externalOpportunityId": "o", "name": "n", "stage": "Open", "description": "d"}])
    api.sync("opportunities", [{"externalOpportunityId": "o", "stage": None}])
    api.sync("opportunities", [{"externalOpportunityId": "o", "description": ""}])
    (record,) = api.emulator.records("opportunities")
    assert record["name"] == "n"
    assert not {"stage", "description"} & set(record)


@pytest.mark.parametrize(
    ("action", "there", "absent"),
    [("createOnly", "1017", "created"), ("updateOnly", "updated", "1013"), ("createOrUpdate", "updated", "created")],
)
def test_the_action_decides(api: Any, deal: dict[str, str], action: str, there: str, absent: str) -> None:
    records = [{**deal, "name": "x"}, {"externalOpportunityId": "new", "name": "y"}]
    assert api.sync("opportunities", records, action=action) == [there, absent]


def test_the_id_field_updates_what_is_there_and_creates_nothing(api: Any, deal: dict[str, str]) -> None:
    (record,) = api.emulator.records("opportunities")
    records = [{"marketoGUID": record["marketoGUID"], "name": "x"}, {"marketoGUID": "none", "name": "y"}, {"name": "z"}]
    assert api.sync("opportunities", records, dedupeBy="idField") == ["updated", "1013", "1002"]
    assert (
        api.code(api.post("opportunities.json", {"dedupeBy": "idField", "action": "createOnly", "input": [{}]})) == 1003
    )


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": None}, "1002"),
        ({"name": ""}, "1002"),
        ({"externalOpportunityId": None}, "1002"),
        ({"externalOpportunityId": "x" * 51}, "1003"),
        ({"name": "x" * 256}, "1003"),
        ({"description": "x" * 2001}, "1003"),
        ({"nonesuch": 1}, "1006"),
        ({"seq": 0}, "1006"),
        ({"marketoGUID": "g"}, "1003"),
        ({"createdAt": "2026-01-01T00:00:00Z"}, "1003"),
        ({"amount": "much"}, "1001"),
        ({"amount": True}, "1001"),
        ({"amount": "1e999"}, "1001"),
        ({"isWon": "perhaps"}, "1001"),
        ({"probability": 0.5}, "1001"),
        ({"closeDate": "01.02.2026"}, "1001"),
        ({"closeDate": "2026-02-30"}, "1001"),
        ({"externalCreatedDate": "2026-01-01T00:00:00"}, "1001"),
        ({"stage": {"a": 1}}, "1001"),
    ],
)
def test_a_bad_record_is_skipped_with_its_code_and_the_others_stand(
    api: Any, changes: dict[str, Any], code: str
) -> None:
    bad = {"externalOpportunityId": "bad", "name": "bad", **changes}
    good = [{"externalOpportunityId": key, "name": key} for key in ("g1", "g2")]
    assert api.sync("opportunities", [good[0], bad, good[1]]) == ["created", code, "created"]
    assert [record["externalOpportunityId"] for record in api.emulator.records("opportunities")] == ["g1", "g2"]


def test_a_new_opportunity_needs_a_name_and_an_update_does_not(api: Any, deal: dict[str, str]) -> None:
    assert api.sync("opportunities", [{"externalOpportunityId": "new"}, {**deal, "stage": "x"}]) == ["1002", "updated"]
    assert api.sync("opportunities", [{**deal, "name": None}]) == ["1002"]


def test_values_are_kept_in_their_types(api: Any) -> None:
    record = {
        "externalOpportunityId": "o",
        "name": 7,
        "amount": "1604.47",
        "isWon": "true",
        "isClosed": False,
        "probability": "20",
        "closeDate": "2026-02-28",
        "externalCreatedDate": "2026-01-01T01:00:00+02:00",
    }
    assert api.sync("opportunities", [record]) == ["created"]
    (kept,) = api.emulator.records("opportunities")
    expected = {"name": "7", "amount": 1604.47, "isWon": True, "isClosed": False, "probability": 20}
    assert {name: kept[name] for name in expected} == expected
    assert kept["externalCreatedDate"] == "2025-12-31T23:00:00Z"


def test_the_second_of_two_equal_keys_in_one_call_is_a_duplicate(api: Any) -> None:
    records = [{"externalOpportunityId": key, "name": str(n)} for n, key in enumerate("aba")]
    assert api.sync("opportunities", records) == ["created", "created", "1036"]
    assert [record["name"] for record in api.emulator.records("opportunities")] == ["0", "1"]


def test_an_unknown_sales_person_refuses_the_whole_call(api: Any) -> None:
    records = [
        {"externalOpportunityId": "a", "name": "a"},
        {"externalOpportunityId": "b", "name": "b", "externalSalesPersonId": "s"},
    ]
    assert api.code(api.post("opportunities.json", {"input": records})) == 718
    assert api.emulator.records("opportunities") == []


def test_a_role_needs_opportunity_lead_and_text(api: Any, deal: dict[str, str]) -> None:
    records = [
        _role(isPrimary=True),
        _role(externalOpportunityId="none"),
        _role(leadId=9),
        _role(role=None),
        _role(role="r" * 51),
        _role(leadId="many"),
        _role(role="r" * 50),
    ]
    assert api.sync(ROLES, records) == ["created", "1013", "1004", "1002", "1003", "1001", "created"]


def test_another_role_text_is_another_role_and_the_same_key_is_updated(api: Any, deal: dict[str, str]) -> None:
    assert api.sync(ROLES, [_role(), _role(role="Buyer"), _role(leadId=BO)]) == ["created"] * 3
    assert api.sync(ROLES, [_role(isPrimary=True), _role(leadId=str(ADA), role="Buyer")]) == ["updated"] * 2
    assert len(api.emulator.records(ROLES)) == 3


def test_an_opportunity_with_roles_is_in_use(api: Any, deal: dict[str, str]) -> None:
    api.sync(ROLES, [_role()])
    assert api.delete("opportunities", [deal]) == ["1022"]
    assert api.delete(ROLES, [_role(), _role(role="none")], deleteBy="dedupeFields") == ["deleted", "1013"]
    assert api.delete("opportunities", [deal, {"externalOpportunityId": "none"}, deal]) == ["deleted", "1013", "1036"]
    assert api.delete("opportunities", [deal]) == ["1013"]


def test_a_delete_takes_keys_only(api: Any, deal: dict[str, str]) -> None:
    (record,) = api.emulator.records("opportunities")
    assert api.delete("opportunities", [{**deal, "name": "x"}, {"nonesuch": 1}, {}]) == ["1003", "1006", "1002"]
    assert api.code(api.post("opportunities/delete.json", {"deleteBy": "name", "input": [deal]})) == 1003
    assert api.delete("opportunities", [{"marketoGUID": record["marketoGUID"]}], deleteBy="idField") == ["deleted"]
    assert api.emulator.records("opportunities") == []


def test_a_deleted_key_can_be_created_again_under_a_new_id(api: Any, deal: dict[str, str]) -> None:
    (before,) = api.emulator.records("opportunities")
    api.delete("opportunities", [deal])
    assert api.sync("opportunities", [{**deal, "name": "again"}]) == ["created"]
    (after,) = api.emulator.records("opportunities")
    assert after["marketoGUID"] != before["marketoGUID"]


def test_companies_have_numbers_and_stay_while_a_lead_belongs_to_them(api: Any) -> None:
    key = {"externalCompanyId": "a1"}
    result = api.post("companies.json", {"input": [{**key, "company": "Oak"}, {**key, "company": "Elm"}]})["result"]
    assert [item["status"] for item in result] == ["created", "skipped"]
    assert isinstance(result[0]["id"], int)
    assert api.sync("leads", [{"email": "bo@example.com", "externalCompanyId": "a1"}]) == ["updated"]
    assert api.delete("companies", [key]) == ["1022"]
    assert api.sync("companies", [{"externalCompanyId": "a2", "company": "Ash"}]) == ["created"]
    assert api.sync("leads", [{"email": "bo@example.com", "externalCompanyId": "a2"}]) == ["updated"]
    assert api.delete("companies", [key]) == ["deleted"]


def test_leads_are_matched_by_the_lookup_field(api: Any) -> None:
    records = [{"dynamicsContactId": "c1", "lastName": "New"}, {"dynamicsContactId": "c9", "lastName": "Nine"}]
    document = api.post("leads.json", {"lookupField": "dynamicsContactId", "input": records})
    assert document["result"] == [{"status": "updated", "id": ADA}, {"status": "created", "id": 1004}]
    assert [lead["lastName"] for lead in api.emulator.records("leads")] == ["New", "Two", "Form", "Nine"]


def test_one_address_of_two_leads_matches_several(api: Any) -> None:
    assert api.sync("leads", [{"email": "ADA@example.com", "title": "x"}]) == ["1007"]


@pytest.mark.parametrize(
    ("record", "body", "code"),
    [
        ({"email": "bo@example.com"}, {"action": "createOnly"}, "1005"),
        ({"email": "no@example.com"}, {"action": "updateOnly"}, "1004"),
        ({"id": BO, "email": "bo@example.com"}, {}, "1003"),
        ({"id": 9, "title": "x"}, {"action": "updateOnly", "lookupField": "id"}, "1004"),
        ({"id": BO, "title": "x"}, {"action": "updateOnly", "lookupField": "id"}, "updated"),
        ({"email": "bo@example.com"}, {"action": "createDuplicate"}, "created"),
        ({"lastName": "x"}, {}, "1002"),
        ({"email": "bö@example.com"}, {}, "1001"),
        ({"email": "bo@example.com", "company": "Oak"}, {}, "1021"),
        ({"email": "bo@example.com", "externalCompanyId": "none"}, {}, "1013"),
        ({"email": "bo@example.com", "nonesuch": 1}, {}, "1006"),
    ],
)
def test_lead_rules(api: Any, record: dict[str, Any], body: dict[str, str], code: str) -> None:
    assert api.sync("leads", [record], **body) == [code]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"lookupField": "nonesuch"}, 1006),
        ({"lookupField": "firstName"}, 1011),
        ({"lookupField": "id"}, 1003),
        ({"action": "explode"}, 1003),
    ],
)
def test_a_bad_lead_request_is_refused_as_a_whole(api: Any, body: dict[str, str], code: int) -> None:
    assert api.code(api.post("leads.json", {**body, "input": [{"email": "x@example.com"}]})) == code


def test_a_deleted_lead_takes_its_roles_along(api: Any, deal: dict[str, str]) -> None:
    api.sync(ROLES, [_role(), _role(leadId=BO)])
    assert api.delete("leads", [{"id": ADA}, {"id": 9}]) == ["deleted", "1004"]
    assert [role["leadId"] for role in api.emulator.records(ROLES)] == [BO]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, 701),
        ({"input": []}, 701),
        ({"input": {"a": 1}}, 609),
        ({"input": [1]}, 609),
        ({"input": [{"externalOpportunityId": str(n), "name": "n"} for n in range(MOST_RECORDS + 1)]}, 1003),
        ({"input": [{}], "action": "createDuplicate"}, 1003),
        ({"input": [{}], "dedupeBy": "name"}, 1003),
    ],
)
def test_a_bad_body_is_refused_as_a_whole(api: Any, body: dict[str, Any], code: int) -> None:
    assert api.code(api.post("opportunities.json", body)) == code
    assert api.emulator.records("opportunities") == []


def test_native_crm_sync_refuses_records_and_hides_the_role_api(api: Any, deal: dict[str, str]) -> None:
    api.emulator.set_native_crm_sync(True)
    assert api.sync("opportunities", [{**deal, "name": "x"}]) == ["1018"]
    assert api.delete("opportunities", [{"externalOpportunityId": "none"}]) == ["1018"]
    assert api.sync("companies", [{"externalCompanyId": "a", "company": "x"}]) == ["1018"]
    assert api.sync("leads", [{"email": "bo@example.com", "title": "x"}]) == ["updated"]
    for path in (f"{ROLES}.json", f"{ROLES}/describe.json"):
        assert api.code(api.get(path, filterType="leadId", filterValues="1")) == 610
    assert api.code(api.post(f"{ROLES}.json", {"input": [_role()]})) == 610
    found = api.get("opportunities.json", filterType="externalOpportunityId", filterValues="o1")
    assert len(found["result"]) == 1
    field = api.get("opportunities/describe.json")["result"][0]["fields"][0]
    assert field["crmManaged"] is True
