"""The stand-in's answers and our client's requests fit Adobe's description (see tests/marketo_contract.json)."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from emulator.marketo.app import Exchange
from opportunity_sync.marketo.auth import Credentials
from opportunity_sync.marketo.client import MarketoClient
from tests.marketo_contract import CONTRACT, JSON, ContractError, call_of, check

pytestmark = pytest.mark.slow

ADA = 1001
ROLES = "opportunities/roles"
PATHS = ("companies", "leads", "opportunities", ROLES)
ROLE = {"externalOpportunityId": "o1", "leadId": ADA, "role": "Champion"}


def _checked(api: Any) -> set[str]:
    """The calls that were made, all of them checked."""
    exchanges = api.emulator.requests
    assert exchanges
    for exchange in exchanges:
        check(exchange)
    return {call_of(exchange) for exchange in exchanges}


def test_the_contract_is_a_schema_and_every_call_names_parts_of_it() -> None:
    Draft202012Validator.check_schema({"$defs": CONTRACT["$defs"]})
    for call in CONTRACT["calls"].values():
        assert {call["answer"], call.get("json", call["answer"])} <= set(CONTRACT["$defs"])


def test_every_answer_of_the_stand_in_fits(launch: Callable[..., Any]) -> None:
    api = launch(keep_bodies=True)
    api.sync("companies", [{"externalCompanyId": "a", "company": "Oak"}, {"externalCompanyId": "a"}])
    api.sync("opportunities", [{"externalOpportunityId": "o1", "name": "n"}, {"externalOpportunityId": "o2"}])
    api.sync(ROLES, [{**ROLE, "isPrimary": True}, {**ROLE, "leadId": 9}])
    api.sync("leads", [{"email": "bo@example.com", "externalCompanyId": "a"}, {"email": "ada@example.com"}])
    for path in PATHS:
        api.get(f"{path}/describe.json")
        name = {"companies": "externalCompanyId", ROLES: "leadId", "leads": "id"}.get(path, "dedupeFields")
        values = {"companies": "a", ROLES: str(ADA), "leads": "1001,1002"}.get(path, "o1")
        assert api.get(f"{path}.json", filterType=name, filterValues=values, batchSize=1)["result"]
        assert api.get(f"{path}.json", filterType=name, filterValues="7")["result"] == []
        api.code(api.get(f"{path}.json", filterType="nonesuch", filterValues="a"))
    assert api.post(f"{ROLES}.json", {"input": [ROLE]}, params={"_method": "GET"})["result"]
    api.get("leads/describe2.json")
    for statistics in ("usage", "usage/last7days", "errors", "errors/last7days"):
        api.get(f"stats/{statistics}.json")
    api.delete(ROLES, [ROLE, ROLE])
    api.delete("opportunities", [{"externalOpportunityId": "o1"}], deleteBy="dedupeFields")
    api.delete("companies", [{"externalCompanyId": "a"}])
    api.delete("leads", [{"id": 1002}, {"id": 9}])
    assert _checked(api) == set(CONTRACT["calls"])


def test_every_request_of_our_client_fits(launch: Callable[..., Any]) -> None:
    api = launch(keep_bodies=True)
    api.emulator.forget()
    emulator = api.emulator
    credentials = Credentials(emulator.url, emulator.client_id, emulator.client_secret, emulator.ca_bundle)
    with MarketoClient(credentials) as client:
        client.usage_today()
        for path in PATHS:
            client.describe(path)
        keys = [{"externalOpportunityId": f"o{number}"} for number in range(3)]
        written = [
            *client.upsert("companies", [{"externalCompanyId": "a", "company": "Oak"}]),
            *client.upsert("leads", [{"email": "bo@example.com", "lastName": None}], lookup_field="email"),
            *client.upsert("opportunities", [{**key, "name": "n", "amount": 1.5} for key in keys]),
            *client.upsert(ROLES, [{**ROLE, "isPrimary": True}], action="createOrUpdate"),
        ]
        assert [result.status for result in written] == ["created", "updated", *["created"] * 4]
        fields = ["externalOpportunityId", "name"]
        found = client.lookup("opportunities", "externalOpportunityId", ["o0", "o2", "none"], fields)
        assert [row["externalOpportunityId"] for row in found] == ["o0", "o2"]
        assert len(client.lookup("leads", "email", ["ada@example.com"], ["id", "email"])) == 2
        assert [row["leadId"] for row in client.lookup_keys(ROLES, [ROLE], list(ROLE))] == [ADA]
        removed = [
            *client.delete(ROLES, [ROLE]),
            *client.delete("opportunities", keys),
            *client.delete("companies", [{"externalCompanyId": "a"}]),
        ]
        assert {result.status for result in removed} == {"deleted"}
        made = client.calls_made
    written_and_removed = {f"POST /rest/v1/{path}.json" for path in PATHS}
    written_and_removed |= {f"POST /rest/v1/{path}/delete.json" for path in PATHS if path != "leads"}
    assert _checked(api) > written_and_removed
    assert api.emulator.counters.calls == api.emulator.used_today == made


DELETE = Exchange(
    method="POST",
    path="/rest/v1/opportunities/delete.json",
    query="",
    content_type=JSON,
    body=json.dumps({"input": [{"externalOpportunityId": "o"}]}).encode(),
    status=200,
    answer=json.dumps(
        {"requestId": "a#1", "success": True, "result": [{"seq": 0, "marketoGUID": "g", "status": "deleted"}]}
    ).encode(),
    codes=(),
)


def _with(**changes: Any) -> Exchange:
    """The exchange with other documents as body or answer."""
    return replace(DELETE, **{name: json.dumps(value).encode() for name, value in changes.items()})


def test_the_checker_lets_a_good_exchange_pass() -> None:
    check(DELETE)


@pytest.mark.parametrize(
    "exchange",
    [
        replace(DELETE, path="/rest/v1/opportunity/delete.json"),
        replace(DELETE, query="access_token=x"),
        replace(DELETE, method="GET"),
        _with(body={"input": []}),
        _with(body={"input": [{"externalOpportunityId": "o", "seq": 0}]}),
        _with(body={"input": [{"externalOpportunityId": str(n)} for n in range(301)]}),
        _with(body={"deleteBy": "name", "input": [{"externalOpportunityId": "o"}]}),
        _with(body={"input": [{"externalOpportunityId": {"id": "o"}}]}),
        _with(answer={"success": True, "result": []}),
        _with(answer={"requestId": "a", "success": True}),
        _with(answer={"requestId": "a", "success": False, "errors": []}),
        _with(answer={"requestId": "a", "success": False, "errors": [{"code": 606, "message": "m"}]}),
        _with(answer={"requestId": "a", "success": False, "result": [], "errors": [{"code": "606", "message": "m"}]}),
        _with(answer={"requestId": "a", "success": True, "result": [{"seq": 0, "status": "deleted"}]}),
        _with(answer={"requestId": "a", "success": True, "result": [{"seq": 0, "status": "skipped"}]}),
        _with(answer={"requestId": "a", "success": True, "result": [{"marketoGUID": "g", "status": "deleted"}]}),
        _with(answer={"requestId": "a", "success": True, "result": [{"seq": 0, "marketoGUID": "g", "status": "gone"}]}),
    ],
)
def test_the_checker_refuses_what_does_not_fit(exchange: Exchange) -> None:
    with pytest.raises(ContractError):
        check(exchange)


@pytest.mark.parametrize(
    "changes",
    [
        {"query": "_method=GET", "content_type": "text/plain", "body": b"filterType=id&filterValues=1"},
        {"query": "_method=GET", "content_type": "application/x-www-form-urlencoded", "body": b"filterType=id"},
        {"query": "_method=GET&limit=3", "content_type": JSON, "body": b'{"input": [{"a": 1}]}'},
    ],
)
def test_the_checker_refuses_a_question_that_does_not_fit(changes: dict[str, Any]) -> None:
    answer = b'{"requestId": "a", "success": true, "result": []}'
    with pytest.raises(ContractError):
        check(replace(DELETE, path="/rest/v1/opportunities.json", answer=answer, **changes))
