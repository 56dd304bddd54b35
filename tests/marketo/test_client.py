from __future__ import annotations

import logging
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import parse_qs

import pytest

from opportunity_sync.marketo.client import MarketoClient
from opportunity_sync.marketo.errors import (
    FeatureNotEnabledError,
    MarketoError,
    MarketoPermissionError,
    MarketoProtocolError,
    MarketoRefusedError,
    MarketoServiceError,
    MarketoThrottledError,
    NativeSyncOnError,
    QuotaUsedUpError,
)
from opportunity_sync.marketo.limits import CallLimits
from opportunity_sync.marketo.objects import LARGEST_BODY_BYTES, OBJECTS, Field, RecordResult
from tests.marketo.conftest import Open
from tests.scripted_marketo import Reply, Request, ScriptedMarketo, in_turn, refusal, success, used

ROLE_KEY = {"externalOpportunityId": "o1", "leadId": 7, "role": "Decision Maker"}


def opportunities(number: int, **more: Any) -> list[dict[str, Any]]:
    return [{"externalOpportunityId": f"o{n}", "name": f"Deal {n}", **more} for n in range(number)]


def written(number: int, status: str = "created") -> list[dict[str, Any]]:
    return [{"seq": n, "status": status, "marketoGUID": f"guid-{n}"} for n in range(number)]


def sent(marketo: ScriptedMarketo, path: str) -> list[Request]:
    return [call for call in marketo.calls if call.path == f"/rest/v1/{path}"]


# -- writing ---------------------------------------------------------------------------------------------------


def test_a_batch_is_created_or_updated_by_its_external_keys(marketo: ScriptedMarketo, open_client: Open) -> None:
    marketo.answer = in_turn(success(written(2)))
    results = open_client().upsert("opportunities", opportunities(2, amount=None))
    (call,) = sent(marketo, "opportunities.json")
    assert call.method == "POST"
    assert call.headers["Content-Type"] == "application/json"
    assert call.json() == {"action": "createOrUpdate", "input": opportunities(2, amount=None)}
    assert results == [RecordResult("created", "guid-0", None, None), RecordResult("created", "guid-1", None, None)]


def test_values_travel_as_marketo_writes_them(marketo: ScriptedMarketo, open_client: Open) -> None:
    marketo.answer = in_turn(success(written(1)))
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    open_client().upsert("opportunities", opportunities(1, closeDate=date(2026, 1, 2), externalCreatedDate=at))
    (record,) = sent(marketo, "opportunities.json")[0].json()["input"]
    assert (record["closeDate"], record["externalCreatedDate"]) == ("2026-01-02", "2026-01-02T03:04:05Z")


def test_leads_are_created_by_the_field_that_finds_them(marketo: ScriptedMarketo, open_client: Open) -> None:
    marketo.answer = in_turn(success([{"id": 50, "status": "created"}]))
    (result,) = open_client().upsert("leads", [{"contactId": "c1"}], action="createOnly", lookup_field="contactId")
    assert sent(marketo, "leads.json")[0].json() == {
        "action": "createOnly",
        "lookupField": "contactId",
        "input": [{"contactId": "c1"}],
    }
    assert result == RecordResult("created", "50", None, None)


@pytest.mark.parametrize(
    ("obj", "key"),
    [
        ("opportunities", {"externalOpportunityId": "o1"}),
        ("opportunities/roles", ROLE_KEY),
        ("companies", {"externalCompanyId": "a1"}),
    ],
)
def test_records_are_deleted_by_their_external_keys(
    marketo: ScriptedMarketo, open_client: Open, obj: str, key: dict[str, Any]
) -> None:
    marketo.answer = in_turn(success([{"seq": 0, "status": "deleted", "marketoGUID": "g"}]))
    assert open_client().delete(obj, [key]) == [RecordResult("deleted", "g", None, None)]
    assert sent(marketo, f"{obj}/delete.json")[0].json() == {"deleteBy": "dedupeFields", "input": [key]}


def test_results_belong_to_records_by_position_and_say_why_one_was_skipped(
    marketo: ScriptedMarketo, open_client: Open
) -> None:
    reasons = [{"code": "1003", "message": "Value 'ann@example.com' is not valid"}, {"code": "1006", "message": "no"}]
    marketo.answer = in_turn(
        success(
            [
                {"seq": 0, "status": "updated", "marketoGUID": "a"},
                {"seq": 1, "status": "skipped", "reasons": reasons},
                {"seq": 2, "status": "skipped", "reason": {"code": 1004, "message": "Lead not found"}},
                {"seq": 3, "status": "skipped"},
            ]
        )
    )
    assert open_client().upsert("opportunities", opportunities(4)) == [
        RecordResult("updated", "a", None, None),
        RecordResult("skipped", None, 1003, "Value '(e-mail address)' is not valid"),
        RecordResult("skipped", None, 1004, "Lead not found"),
        RecordResult("skipped", None, None, None),
    ]


@pytest.mark.parametrize(
    ("answered", "words"),
    [
        (written(1), "1 results for 2 records of opportunities"),
        (written(3), "3 results for 2 records of opportunities"),
        ([], "0 results for 2 records of opportunities"),
        (written(2, status="fine"), "a status the API does not promise"),
        (["text", "text"], "writing opportunities is not what the API promises"),
    ],
)
def test_an_answer_that_does_not_fit_the_batch_is_never_taken_for_one(
    marketo: ScriptedMarketo, open_client: Open, answered: list[Any], words: str
) -> None:
    marketo.answer = in_turn(success(answered))
    with pytest.raises(MarketoProtocolError, match=words) as caught:
        open_client().upsert("opportunities", opportunities(2))
    assert not caught.value.transient


@pytest.mark.parametrize(
    ("obj", "records", "words"),
    [
        ("opportunities", opportunities(301), "301 records of opportunities are too many"),
        ("opportunities", opportunities(1) * 2, "2 records of opportunities has only 1 keys"),
        ("opportunities/roles", [ROLE_KEY | {"isPrimary": primary} for primary in (True, False)], "has only 1 keys"),
        ("companies", [{"externalCompanyId": "a"}] * 2, "has only 1 keys"),
        ("salespersons", [{}], "salespersons is not one of the Marketo objects"),
    ],
)
def test_what_marketo_would_refuse_is_refused_before_it_is_sent(
    marketo: ScriptedMarketo, open_client: Open, obj: str, records: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(MarketoProtocolError, match=words):
        open_client().upsert(obj, records)
    with pytest.raises(MarketoProtocolError, match=words):
        open_client().delete(obj, records)
    assert marketo.requests == []


def test_roles_differ_by_opportunity_lead_or_role(marketo: ScriptedMarketo, open_client: Open) -> None:
    differing: list[dict[str, Any]] = [{}, {"externalOpportunityId": "o2"}, {"leadId": 8}, {"role": "User"}]
    marketo.answer = in_turn(success(written(4)))
    assert len(open_client().upsert("opportunities/roles", [ROLE_KEY | each for each in differing])) == 4


def test_an_empty_batch_is_not_sent(marketo: ScriptedMarketo, open_client: Open) -> None:
    client = open_client()
    assert client.upsert("opportunities", []) == []
    assert client.delete("opportunities", []) == []
    assert client.lookup("leads", "email", [], ["id"]) == []
    assert client.lookup_keys("opportunities/roles", [], []) == []
    assert marketo.requests == []


def test_leads_are_never_deleted(marketo: ScriptedMarketo, open_client: Open) -> None:
    with pytest.raises(MarketoProtocolError, match="deletes no leads"):
        open_client().delete("leads", [{"id": 1}])
    assert marketo.requests == []


# -- batches ---------------------------------------------------------------------------------------------------


def test_batches_hold_at_most_300_records_in_their_order() -> None:
    records = opportunities(601)
    batches = list(MarketoClient.batches(iter(records)))
    assert [len(batch) for batch in batches] == [300, 300, 1]
    assert [record for batch in batches for record in batch] == records
    assert list(MarketoClient.batches([])) == []


def test_batches_are_cut_so_that_no_body_is_larger_than_a_megabyte(marketo: ScriptedMarketo, open_client: Open) -> None:
    records = opportunities(50, description="é" * 40_000)
    client = open_client()
    marketo.answer = lambda request: success(written(len(request.json()["input"])))
    for batch in client.batches(records):
        client.upsert("opportunities", batch)
    sizes = [len(call.body) for call in sent(marketo, "opportunities.json")]
    assert len(sizes) == 5
    assert max(sizes) <= LARGEST_BODY_BYTES
    assert sum(len(call.json()["input"]) for call in sent(marketo, "opportunities.json")) == 50


def test_a_record_too_large_for_any_call_is_an_error() -> None:
    with pytest.raises(MarketoProtocolError, match="too large for a call"):
        list(MarketoClient.batches(opportunities(1, description="x" * LARGEST_BODY_BYTES)))


# -- reading ---------------------------------------------------------------------------------------------------


def test_a_description_tells_fields_keys_and_what_can_be_searched(marketo: ScriptedMarketo, open_client: Open) -> None:
    described = {
        "name": "opportunity",
        "idField": "marketoGUID",
        "dedupeFields": ["externalOpportunityId"],
        "searchableFields": [["externalOpportunityId"], ["marketoGUID"]],
        "relationships": [],
        "fields": [
            {"name": "name", "displayName": "Name", "dataType": "string", "length": 255, "updateable": True},
            {"name": "createdAt", "dataType": "datetime", "updateable": False, "crmManaged": False},
        ],
    }
    marketo.answer = in_turn(success([described]))
    found = open_client().describe("opportunities")
    assert (found.name, found.id_field, found.dedupe_fields) == (
        "opportunity",
        "marketoGUID",
        ("externalOpportunityId",),
    )
    assert found.searchable_fields == (("externalOpportunityId",), ("marketoGUID",))
    assert found.fields == {
        "name": Field("name", "string", 255, updateable=True),
        "createdAt": Field("createdAt", "datetime", None, updateable=False),
    }


@pytest.mark.parametrize("obj", OBJECTS)
def test_each_object_has_its_own_address_to_be_described_at(
    marketo: ScriptedMarketo, open_client: Open, obj: str
) -> None:
    marketo.answer = in_turn(success([{"name": "x", "fields": []}]))
    open_client().describe(obj)
    assert sent(marketo, f"{obj}/{'describe2' if obj == 'leads' else 'describe'}.json")


def test_a_lookup_asks_in_a_body_so_that_no_log_holds_an_address(
    marketo: ScriptedMarketo, open_client: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    marketo.answer = in_turn(success([{"id": 1, "email": "ann@example.com"}]))
    rows = open_client().lookup("leads", "email", ["ann@example.com", "bob+x@example.com"], ["id", "email"])
    assert rows == [{"id": 1, "email": "ann@example.com"}]
    (call,) = sent(marketo, "leads.json?_method=GET")
    assert call.method == "POST"
    assert call.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert parse_qs(call.body.decode()) == {
        "filterType": ["email"],
        "filterValues": ["ann@example.com,bob+x@example.com"],
        "fields": ["id,email"],
    }
    assert [text for text in caplog.messages if "example.com" in text] == []
    assert any("leads.json" in text for text in caplog.messages), "the log of the transport was not looked at"


def test_a_value_that_cannot_be_asked_for_finds_nothing_and_spoils_nothing(
    marketo: ScriptedMarketo, open_client: Open, caplog: pytest.LogCaptureFixture
) -> None:
    marketo.answer = in_turn(success([{"id": 1}]))
    client = open_client()
    assert client.lookup("leads", "email", ['"a,b"@example.com', "", "ann@example.com"], ["id"]) == [{"id": 1}]
    (call,) = sent(marketo, "leads.json?_method=GET")
    assert parse_qs(call.body.decode())["filterValues"] == ["ann@example.com"]
    assert "leads: 2 values cannot be looked up (empty or with a comma)" in caplog.messages
    assert client.lookup("leads", "email", ["a,b"], ["id"]) == []
    assert len(sent(marketo, "leads.json?_method=GET")) == 1


def test_a_lookup_follows_its_pages_to_the_end(marketo: ScriptedMarketo, open_client: Open) -> None:
    marketo.answer = in_turn(
        success([{"marketoGUID": "a"}], nextPageToken="P1", moreResult=True),
        success([{"marketoGUID": "b"}], nextPageToken="P2", moreResult=True),
        success([{"marketoGUID": "c"}], nextPageToken="P3", moreResult=False),
    )
    rows = open_client().lookup("opportunities/roles", "externalOpportunityId", ["o1"], ["marketoGUID"])
    assert [row["marketoGUID"] for row in rows] == ["a", "b", "c"]
    asked = [parse_qs(call.body.decode()) for call in sent(marketo, "opportunities/roles.json?_method=GET")]
    assert [each.get("nextPageToken") for each in asked] == [None, ["P1"], ["P2"]]
    assert all(each["filterValues"] == ["o1"] for each in asked)


def test_a_page_that_names_itself_as_next_is_an_error(marketo: ScriptedMarketo, open_client: Open) -> None:
    marketo.answer = in_turn(success([], nextPageToken="P1", moreResult=True))
    with pytest.raises(MarketoProtocolError, match="names itself as the next page"):
        open_client().lookup("opportunities", "externalOpportunityId", ["o1"], [])


def test_keys_of_several_fields_are_looked_up_by_a_json_body(marketo: ScriptedMarketo, open_client: Open) -> None:
    other = ROLE_KEY | {"leadId": 8}
    marketo.answer = in_turn(
        success([{"seq": 0, "marketoGUID": "a"}], nextPageToken="P1", moreResult=True),
        success([{"seq": 1, "status": "skipped", "reasons": [{"code": "1013", "message": "Object not found"}]}]),
    )
    assert open_client().lookup_keys("opportunities/roles", [ROLE_KEY, other], ["isPrimary"]) == [
        {"seq": 0, "marketoGUID": "a"}
    ]
    first, second = (call.json() for call in sent(marketo, "opportunities/roles.json?_method=GET"))
    assert first == {"filterType": "dedupeFields", "fields": ["isPrimary"], "input": [ROLE_KEY, other]}
    assert second == first | {"nextPageToken": "P1"}


def test_a_key_skipped_for_another_reason_is_not_taken_for_an_absent_one(
    marketo: ScriptedMarketo, open_client: Open
) -> None:
    marketo.answer = in_turn(success([{"status": "skipped", "reasons": [{"code": "1003", "message": "x"}]}]))
    with pytest.raises(MarketoProtocolError, match="skipped a key in a look-up of opportunities/roles with code 1003"):
        open_client().lookup_keys("opportunities/roles", [ROLE_KEY], [])


@pytest.mark.parametrize("answer", [refusal(702, "No data found"), success([]), {"success": True, "requestId": "x"}])
def test_a_search_without_a_find_is_empty(marketo: ScriptedMarketo, open_client: Open, answer: object) -> None:
    marketo.answer = in_turn(answer)
    assert open_client().lookup("opportunities", "externalOpportunityId", ["o1"], []) == []


def test_more_values_than_a_call_takes_are_refused_before_they_are_sent(
    marketo: ScriptedMarketo, open_client: Open
) -> None:
    with pytest.raises(MarketoProtocolError, match="301 values are too many"):
        open_client().lookup("leads", "email", [str(n) for n in range(301)], [])
    assert marketo.requests == []


# -- refusals and failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (refusal(603), MarketoPermissionError, "lacks the permission Read-Write Named Opportunity"),
        (refusal(703), FeatureNotEnabledError, "not enabled"),
        (refusal(704, "Invalid date 'x'"), MarketoRefusedError, "704 to POST opportunities .*Invalid date 'x'"),
        (refusal(718, "no ann@example.com"), MarketoRefusedError, r"no \(e-mail address\)"),
        (refusal(1018), NativeSyncOnError, "this Marketo instance has native CRM sync on"),
        (refusal(609), MarketoProtocolError, "not valid JSON"),
        (refusal(610), MarketoProtocolError, "no such address"),
        (refusal(612), MarketoProtocolError, "content type"),
        (refusal(605), MarketoProtocolError, "method"),
        ({"success": False, "errors": [{"code": "?", "message": ""}]}, MarketoProtocolError, "without a code"),
        ({"success": False}, MarketoProtocolError, "without a code"),
        (Reply("", status=413), MarketoProtocolError, "413 to POST opportunities: the body is too large"),
        (Reply("", status=414), MarketoProtocolError, "414 to POST opportunities: the address is too long"),
        (
            Reply("", status=307, headers={"Location": "/rest/v1/x.json"}),
            MarketoProtocolError,
            "307 to POST opportunities",
        ),
        (Reply("", status=404), MarketoProtocolError, "404 to POST opportunities"),
        (Reply("", status=403), MarketoProtocolError, "403 to POST .*Look at what stands between Airflow and Marketo"),
    ],
)
def test_what_no_repetition_can_help_stops_at_once_and_says_why(
    marketo: ScriptedMarketo, open_client: Open, answer: object, error: type[MarketoError], words: str
) -> None:
    marketo.answer = in_turn(answer)
    with pytest.raises(error, match=words) as caught:
        open_client().upsert("opportunities", opportunities(1))
    assert not caught.value.transient
    assert [call.path for call in marketo.calls[1:]] == ["/rest/v1/opportunities.json"]
    assert "example.com" not in str(caught.value)


def test_an_error_names_marketos_request_for_its_support(marketo: ScriptedMarketo, open_client: Open) -> None:
    marketo.answer = in_turn(refusal(603))
    with pytest.raises(MarketoPermissionError, match=re.escape("(request e42b#14272d07d78)")) as caught:
        open_client().lookup("companies", "externalCompanyId", ["a"], [])
    assert caught.value.code == 603
    assert "Read-Only Company" in str(caught.value)


@pytest.mark.parametrize("answer", [refusal(610), Reply("", status=404), refusal(1018)])
def test_an_instance_without_the_role_api_has_native_sync_on(
    marketo: ScriptedMarketo, open_client: Open, answer: object
) -> None:
    marketo.answer = in_turn(answer)
    with pytest.raises(NativeSyncOnError, match="this Marketo instance has native CRM sync on"):
        open_client().describe("opportunities/roles")


def test_one_record_refused_for_native_sync_stops_everything(marketo: ScriptedMarketo, open_client: Open) -> None:
    skipped = {"seq": 0, "status": "skipped", "reasons": [{"code": "1018", "message": "CRM integration is enabled"}]}
    marketo.answer = in_turn(success([skipped]))
    with pytest.raises(NativeSyncOnError, match=r"1018 to records of opportunities.*native CRM sync on"):
        open_client().upsert("opportunities", opportunities(1))


@pytest.mark.parametrize(
    ("failing", "error"),
    [
        (refusal(606), MarketoThrottledError),
        (refusal(615), MarketoThrottledError),
        (refusal(604), MarketoServiceError),
        (refusal(608), MarketoServiceError),
        (refusal(611), MarketoServiceError),
        (refusal(614), MarketoServiceError),
        (refusal(713), MarketoServiceError),
        (Reply("<html>Bad gateway</html>", status=502), MarketoServiceError),
        (Reply("", status=500), MarketoServiceError),
        (Reply("", status=408), MarketoServiceError),
        (Reply("", status=429), MarketoThrottledError),
        (Reply("<html>Please wait</html>"), MarketoServiceError),
        (Reply('{"success": tr'), MarketoServiceError),
        (Reply("[]"), MarketoServiceError),
    ],
)
def test_what_may_pass_is_repeated_with_growing_waits_until_the_budget_is_used_up(
    marketo: ScriptedMarketo, open_client: Open, failing: object, error: type[MarketoError]
) -> None:
    marketo.answer = in_turn(failing, failing, failing, success(written(1)))
    waits: list[float] = []
    client = open_client(sleep=waits.append)
    assert client.upsert("opportunities", opportunities(1))[0].status == "created"
    assert all(2**n / 2 <= wait <= 2**n for n, wait in enumerate(waits))
    assert len({call.body for call in sent(marketo, "opportunities.json")}) == 1
    assert (len(waits), client.calls_made) == (3, 5)  # one for the usage

    marketo.answer = in_turn(failing)
    with pytest.raises(error, match="to POST opportunities") as caught:
        client.upsert("opportunities", opportunities(1))
    assert caught.value.transient
    assert "Given up after" in caught.value.__notes__[0]


def test_a_write_that_timed_out_is_repeated(marketo: ScriptedMarketo, open_client: Open) -> None:
    marketo.answer = in_turn(Reply(success(written(1)), seconds=1.0), success(written(1, "updated")))
    (result,) = open_client(write_seconds=0.3).upsert("opportunities", opportunities(1))
    assert result.status == "updated"
    assert len(sent(marketo, "opportunities.json")) == 2


def test_a_delete_that_timed_out_is_repeated_and_then_finds_nothing(
    marketo: ScriptedMarketo, open_client: Open
) -> None:
    gone = {"seq": 0, "status": "skipped", "reasons": [{"code": "1013", "message": "Object not found"}]}
    marketo.answer = in_turn(Reply(success(written(1, "deleted")), seconds=1.0), success([gone]))
    (result,) = open_client(write_seconds=0.3).delete("opportunities", [{"externalOpportunityId": "o1"}])
    assert (result.status, result.code) == ("skipped", 1013)


def test_reads_have_less_time_than_writes(marketo: ScriptedMarketo, open_client: Open) -> None:
    marketo.answer = in_turn(Reply(success([{"externalOpportunityId": "o1"}]), seconds=0.6))
    client = open_client(read_seconds=0.2, write_seconds=10, retry_budget_seconds=0)
    with pytest.raises(MarketoServiceError, match=r"No complete answer from https://localhost.*ReadTimeout"):
        client.lookup("opportunities", "externalOpportunityId", ["o1"], [])


def test_a_used_up_quota_names_the_time_until_its_reset_and_is_not_waited_for(
    marketo: ScriptedMarketo, open_client: Open
) -> None:
    marketo.answer = in_turn(refusal(607))
    waits: list[float] = []
    with pytest.raises(QuotaUsedUpError, match=r"607.*daily quota is used up.*after midnight, US Central") as caught:
        open_client(sleep=waits.append, retry_budget_seconds=0).upsert("opportunities", opportunities(1))
    assert caught.value.transient
    assert 60 <= caught.value.retry_after <= 25 * 3600 + 60
    assert waits == []


def test_a_failing_usage_is_repeated_as_part_of_the_call_that_waits_for_it(
    marketo: ScriptedMarketo, open_client: Open
) -> None:
    marketo.usage = in_turn(refusal(611), refusal(611), used(0))
    marketo.answer = in_turn(success(written(1)))
    waits: list[float] = []
    open_client(sleep=waits.append).upsert("opportunities", opportunities(1))
    assert len(waits) == 2

    marketo.usage = in_turn(refusal(611))
    waits.clear()
    with pytest.raises(MarketoServiceError, match="611 to GET stats/usage"):
        open_client(sleep=waits.append, retry_budget_seconds=10).upsert("opportunities", opportunities(1))
    assert sum(waits) <= 10


# -- calls -----------------------------------------------------------------------------------------------------


def test_the_budget_of_the_day_stops_before_the_quota_does(marketo: ScriptedMarketo, open_client: Open) -> None:
    marketo.usage = in_turn(used(98))
    marketo.answer = in_turn(success(written(1)))
    client = open_client(daily_calls=100, retry_budget_seconds=0)
    client.upsert("opportunities", opportunities(1))
    client.upsert("opportunities", opportunities(1))
    with pytest.raises(QuotaUsedUpError, match="100 calls today, and daily_calls is 100"):
        client.upsert("opportunities", opportunities(1))
    assert len(sent(marketo, "opportunities.json")) == 2
    assert client.usage_today() == 98
    assert client.calls_made == len(marketo.calls) == 4


def test_threads_share_one_client_its_limits_and_its_connections(marketo: ScriptedMarketo, open_client: Open) -> None:
    def answer(request: Request) -> object:
        records = request.json()["input"]
        results = [{"status": "created", "marketoGUID": record["externalOpportunityId"]} for record in records]
        return Reply(success(results), seconds=0.02)

    marketo.answer = answer
    client = open_client(limits=CallLimits(100, 3))

    def write(number: int) -> tuple[int, str | None]:
        (result,) = client.upsert("opportunities", [{"externalOpportunityId": str(number)}])
        return number, result.marketo_id

    with ThreadPoolExecutor(10) as pool:
        found = dict(pool.map(write, range(40)))
    assert found == {number: str(number) for number in range(40)}
    assert marketo.most_open == 3
    assert client.calls_made == len(marketo.calls) == 41
    assert len({call.port for call in marketo.calls}) <= 3
    assert len(marketo.token_requests) == 1
