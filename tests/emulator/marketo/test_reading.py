from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ADA, BO, FORM = 1001, 1002, 1003
ROLES = "opportunities/roles"


def _opportunities(api: Any, number: int) -> list[str]:
    keys = [f"o{n:04}" for n in range(number)]
    api.emulator.upsert("opportunities", [{"externalOpportunityId": key, "name": key} for key in keys])
    return keys


def _pages(api: Any, path: str, **parameters: Any) -> Iterator[dict[str, Any]]:
    page = api.get(path, **parameters)
    yield page
    while page["moreResult"]:
        page = api.get(path, **parameters, nextPageToken=page["nextPageToken"])
        yield page


def test_a_lookup_answers_what_is_there_and_nothing_for_the_rest(api: Any) -> None:
    keys = _opportunities(api, 3)
    document = api.get(
        "opportunities.json",
        filterType="externalOpportunityId",
        filterValues=f"{keys[2]},none,{keys[0]}",
        fields="name",
    )
    assert document["moreResult"] is False
    assert [(row["seq"], row["name"]) for row in document["result"]] == [(0, keys[2]), (1, keys[0])]
    assert set(document["result"][0]) == {"seq", "marketoGUID", "name"}
    assert api.get("opportunities.json", filterType="dedupeFields", filterValues="none")["result"] == []


def test_without_fields_the_usual_ones_come(api: Any) -> None:
    _opportunities(api, 1)
    (row,) = api.get("opportunities.json", filterType="dedupeFields", filterValues="o0000")["result"]
    assert set(row) == {"seq", "marketoGUID", "externalOpportunityId", "createdAt", "updatedAt"}
    (lead,) = api.get("leads.json", filterType="id", filterValues=str(FORM))["result"]
    assert set(lead) == {"id", "email", "firstName", "lastName", "createdAt", "updatedAt"}


def test_empty_fields_are_left_out_but_null_in_leads(api: Any) -> None:
    _opportunities(api, 1)
    (row,) = api.get("opportunities.json", filterType="dedupeFields", filterValues="o0000", fields="stage")["result"]
    assert "stage" not in row
    (lead,) = api.get("leads.json", filterType="id", filterValues=str(FORM), fields="dynamicsContactId")["result"]
    assert lead == {"id": FORM, "dynamicsContactId": None}


def test_more_than_a_page_is_paged(api: Any) -> None:
    _opportunities(api, 7)
    filters = {"filterType": "externalCompanyId", "filterValues": "a", "fields": "name", "batchSize": 3}
    api.emulator.upsert(
        "opportunities", [{"externalOpportunityId": f"o{n:04}", "externalCompanyId": "a"} for n in range(7)]
    )
    pages = list(_pages(api, "opportunities.json", **filters))
    assert [len(page["result"]) for page in pages] == [3, 3, 1]
    assert [row["name"] for page in pages for row in page["result"]] == [f"o{n:04}" for n in range(7)]
    assert "nextPageToken" not in pages[-1]


def test_a_page_is_300_at_most(api: Any) -> None:
    _opportunities(api, 1)
    roles = [{"externalOpportunityId": "o0000", "leadId": ADA, "role": f"r{n}"} for n in range(301)]
    api.emulator.upsert(ROLES, roles)
    sizes = [
        len(page["result"])
        for page in _pages(api, f"{ROLES}.json", filterType="leadId", filterValues=str(ADA), batchSize=1000)
    ]
    assert sizes == [300, 1]


def test_a_token_belongs_to_its_question(api: Any) -> None:
    keys = _opportunities(api, 3)
    filters = {"filterType": "externalOpportunityId", "filterValues": ",".join(keys), "batchSize": 1}
    token = api.get("opportunities.json", **filters)["nextPageToken"]
    other = {**filters, "filterValues": keys[0]}
    assert api.code(api.get("opportunities.json", **other, nextPageToken=token)) == 1003
    assert api.code(api.get("opportunities.json", **filters, nextPageToken="invented")) == 1003
    again = [api.get("opportunities.json", **filters, nextPageToken=token)["result"] for _ in range(2)]
    assert again[0] == again[1]


def test_what_was_deleted_between_two_pages_is_not_answered(api: Any) -> None:
    keys = _opportunities(api, 3)
    filters = {"filterType": "dedupeFields", "filterValues": ",".join(keys), "batchSize": 1}
    token = api.get("opportunities.json", **filters)["nextPageToken"]
    api.emulator.delete("opportunities", [{"externalOpportunityId": keys[1]}])
    page = api.get("opportunities.json", **filters, nextPageToken=token)
    assert page["result"] == []
    last = api.get("opportunities.json", **filters, nextPageToken=page["nextPageToken"])
    assert [row["externalOpportunityId"] for row in last["result"]] == [keys[2]]


def test_a_long_question_goes_as_a_form_in_a_post(api: Any) -> None:
    keys = _opportunities(api, 300)
    values = ",".join(f"{key}{'x' * 30}" for key in keys[1:]) + f",{keys[0]}"
    form = {"filterType": "externalOpportunityId", "filterValues": values, "fields": "name"}
    assert api.raw("GET", "opportunities.json", params=form).status_code == 414
    response = api.raw("POST", "opportunities.json", params={"_method": "GET"}, data=form)
    assert [row["name"] for row in response.json()["result"]] == [keys[0]]
    assert api.emulator.counters.endpoints["GET /rest/v1/opportunities.json"] == 2
    assert api.emulator.counters.writes == 0


def test_compound_keys_go_as_json_in_a_post(api: Any) -> None:
    _opportunities(api, 2)
    roles = [
        {"externalOpportunityId": key, "leadId": lead, "role": "Champion, really"}
        for key in ("o0000", "o0001")
        for lead in (ADA, BO)
    ]
    api.emulator.upsert(ROLES, [{**role, "isPrimary": role["leadId"] == ADA} for role in roles])
    asked = [roles[3], {**roles[0], "role": "Other"}, roles[0]]
    body = {"filterType": "dedupeFields", "fields": ["marketoGuid", "leadId", "isPrimary"], "input": asked}
    document = api.post(f"{ROLES}.json", body, params={"_method": "GET"})
    assert [(row["leadId"], row["isPrimary"]) for row in document["result"]] == [(BO, False), (ADA, True)]
    assert all(row["marketoGUID"] for row in document["result"])
    first = api.post(f"{ROLES}.json", {**body, "batchSize": 1}, params={"_method": "GET"})
    rest = {**body, "batchSize": 1, "nextPageToken": first["nextPageToken"]}
    assert [row["leadId"] for row in api.post(f"{ROLES}.json", rest, params={"_method": "GET"})["result"]] == [ADA]


@pytest.mark.parametrize(("name", "value"), [("leadId", str(ADA)), ("externalOpportunityId", "o0000")])
def test_roles_are_found_by_either_end(api: Any, name: str, value: str) -> None:
    _opportunities(api, 1)
    api.emulator.upsert(ROLES, [{"externalOpportunityId": "o0000", "leadId": ADA, "role": r} for r in "ab"])
    found = api.get(f"{ROLES}.json", filterType=name, filterValues=value, fields="role")["result"]
    assert [row["role"] for row in found] == ["a", "b"]


def test_filters_follow_changes_and_deletes(api: Any) -> None:
    _opportunities(api, 1)
    roles = [{"externalOpportunityId": "o0000", "leadId": ADA, "role": r} for r in "abc"]
    api.emulator.upsert(ROLES, roles)
    api.emulator.delete(ROLES, roles[:1])
    found = api.get(f"{ROLES}.json", filterType="leadId", filterValues=str(ADA), fields="role")["result"]
    assert [row["role"] for row in found] == ["b", "c"]
    assert api.delete("opportunities", [{"externalOpportunityId": "o0000"}]) == ["1022"]
    api.emulator.upsert("leads", [{"dynamicsContactId": "c1", "email": "new@example.com"}], "dynamicsContactId")
    for address, ids in (("ada@example.com", [FORM]), ("new@example.com", [ADA])):
        leads = api.get("leads.json", filterType="email", filterValues=address)["result"]
        assert [lead["id"] for lead in leads] == ids


def test_leads_are_found_by_address_without_regard_to_case_and_by_the_custom_field(api: Any) -> None:
    by_address = api.get("leads.json", filterType="email", filterValues="ADA@EXAMPLE.COM")["result"]
    assert [lead["id"] for lead in by_address] == [ADA, FORM]
    for name in ("dynamicsContactId", "externalPersonId"):
        found = api.get("leads.json", filterType=name, filterValues="c2,c7", fields=f"id,{name}")["result"]
        assert found == [{"id": BO, name: "c2"}]


@pytest.mark.parametrize(
    ("path", "parameters", "code"),
    [
        ("opportunities", {"filterValues": "a"}, 701),
        ("opportunities", {"filterType": "marketoGUID"}, 701),
        ("opportunities", {"filterType": "nonesuch", "filterValues": "a"}, 1006),
        ("opportunities", {"filterType": "name", "filterValues": "a"}, 1011),
        ("opportunities", {"filterType": "dedupeFields", "filterValues": "a", "fields": "nonesuch"}, 1006),
        ("opportunities", {"filterType": "dedupeFields", "filterValues": "a", "batchSize": "many"}, 1001),
        ("opportunities/roles", {"filterType": "dedupeFields", "filterValues": "a"}, 1003),
        ("leads", {"filterType": "firstName", "filterValues": "a"}, 1011),
        ("companies", {"filterType": "id", "filterValues": ",".join(map(str, range(301)))}, 1003),
    ],
)
def test_a_bad_question_is_refused(api: Any, path: str, parameters: dict[str, str], code: int) -> None:
    assert api.code(api.get(f"{path}.json", **parameters)) == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"input": []}, 701),
        ({"filterType": "leadId"}, 1003),
        ({"input": [{"externalOpportunityId": "o"}]}, 1003),
        ({"input": [{"externalOpportunityId": "o", "leadId": "x", "role": "r"}]}, 1001),
    ],
)
def test_a_bad_list_of_keys_is_refused(api: Any, changes: dict[str, Any], code: int) -> None:
    key = {"externalOpportunityId": "o", "leadId": 1, "role": "r"}
    body = {"filterType": "dedupeFields", "input": [key], **changes}
    assert api.code(api.post(f"{ROLES}.json", body, params={"_method": "GET"})) == code


def test_a_filter_with_more_than_a_thousand_leads_is_refused(api: Any) -> None:
    leads = [{"email": f"e{n}@example.com", "externalPersonId": "same"} for n in range(1001)]
    api.emulator.upsert("leads", leads)
    assert api.code(api.get("leads.json", filterType="externalPersonId", filterValues="same")) == 1003


def test_describe_names_keys_filters_types_and_lengths(api: Any) -> None:
    api.emulator.add_field("opportunities", "dealRegion", "string", 40)
    (found,) = api.get("opportunities/describe.json")["result"]
    assert (found["name"], found["idField"], found["dedupeFields"]) == (
        "opportunity",
        "marketoGUID",
        ["externalOpportunityId"],
    )
    assert ["externalOpportunityId"] in found["searchableFields"]
    assert ["dealRegion"] in found["searchableFields"]
    fields = {field["name"]: field for field in found["fields"]}
    assert (fields["name"]["length"], fields["description"]["length"], fields["dealRegion"]["length"]) == (
        255,
        2000,
        40,
    )
    assert fields["externalOpportunityId"]["updateable"] is False
    (roles,) = api.get("opportunities/roles/describe.json")["result"]
    assert roles["searchableFields"][0] == roles["dedupeFields"] == ["externalOpportunityId", "leadId", "role"]
    (companies,) = api.get("companies/describe.json")["result"]
    assert (companies["idField"], companies["dedupeFields"]) == ("id", ["externalCompanyId"])


def test_leads_are_described_in_two_ways(api: Any) -> None:
    old = api.get("leads/describe.json")["result"]
    (new,) = api.get("leads/describe2.json")["result"]
    assert [item["rest"]["name"] for item in old] == [field["name"] for field in new["fields"]]
    assert ["dynamicsContactId"] in new["searchableFields"]
    assert ["firstName"] not in new["searchableFields"]


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "nonesuch.json", 610),
        ("GET", "opportunities", 610),
        ("GET", "opportunities/describe2.json", 610),
        ("GET", "opportunities/delete.json", 605),
        ("POST", "opportunities/describe.json", 605),
        ("POST", "stats/usage.json", 605),
        ("DELETE", "opportunities.json", 605),
    ],
)
def test_wrong_addresses_and_methods(api: Any, method: str, path: str, code: int) -> None:
    assert api.code(api.raw(method, path, json={"input": [{}]}).json()) == code


def test_a_body_is_json_and_says_so(api: Any) -> None:
    json_type = {"Content-Type": "application/json"}
    for data in (b"{", b"[1]", b"\xff"):
        assert api.code(api.raw("POST", "opportunities.json", data=data, headers=json_type).json()) == 609
    assert api.code(api.raw("POST", "opportunities.json", data=b'{"input": []}').json()) == 612
    text = {"Content-Type": "text/plain"}
    response = api.raw("POST", "opportunities.json", params={"_method": "GET"}, data=b"filterType=x", headers=text)
    assert api.code(response.json()) == 612


def test_a_body_of_more_than_a_megabyte_is_413(api: Any) -> None:
    record = {"externalOpportunityId": "o", "name": "n", "description": "x" * 1_000_000}
    assert api.raw("POST", "opportunities.json", json={"input": [record]}).status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "salespersons.json",
        "lead/1001.json",
        "opportunities/schema/fields.json",
        "customobjects.json",
        "activities.json",
    ],
)
def test_what_is_not_spoken_is_501_by_name(api: Any, path: str) -> None:
    response = api.raw("GET", path)
    assert response.status_code == 501
    assert f"/rest/v1/{path}" in response.json()["errors"][0]["message"]


def test_permissions_reach_reading_or_writing(api: Any, deal: dict[str, str]) -> None:
    api.emulator.set_access(opportunities="read", leads="none")
    lookup = {"filterType": "dedupeFields", "filterValues": "o1"}
    assert len(api.get("opportunities.json", **lookup)["result"]) == 1
    assert api.code(api.post("opportunities.json", {"input": [deal]})) == 603
    assert api.code(api.post(f"{ROLES}/delete.json", {"input": [deal]})) == 603
    assert api.code(api.get("leads/describe2.json")) == 603
    assert api.sync("companies", [{"externalCompanyId": "a", "company": "x"}]) == ["created"]
    with pytest.raises(ValueError, match="roles"):
        api.emulator.set_access(roles="read")


def test_a_feature_may_be_off(api: Any) -> None:
    api.emulator.set_feature("companies", on=False)
    assert api.code(api.get("companies/describe.json")) == 703
    assert api.get("opportunities/describe.json")["success"]
    api.emulator.set_feature("companies", on=True)
    assert api.get("companies/describe.json")["success"]
