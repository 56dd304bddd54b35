"""The client against the stand-in: state, limits and faults that a scripted answer cannot show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from emulator.marketo.server import MarketoEmulator, running
from opportunity_sync.marketo.auth import Credentials
from opportunity_sync.marketo.client import MarketoClient
from opportunity_sync.marketo.errors import (
    FeatureNotEnabledError,
    MarketoAuthenticationError,
    MarketoPermissionError,
    MarketoRefusedError,
    NativeSyncOnError,
    QuotaUsedUpError,
)
from opportunity_sync.marketo.limits import CallLimits
from opportunity_sync.marketo.objects import OBJECT_ABSENT, OBJECTS

pytestmark = pytest.mark.slow

OPPORTUNITY = {"externalOpportunityId": "o1", "name": "Deal"}
KEY = {"externalOpportunityId": "o1"}
OpenAgain = Callable[..., MarketoClient]


@pytest.fixture
def instance(tls_dir: Path) -> Iterator[MarketoEmulator]:
    with running(tls_dir=tls_dir) as emulator:
        yield emulator


@pytest.fixture
def open_client(instance: MarketoEmulator) -> Iterator[OpenAgain]:
    with ExitStack() as stack:

        def start(secret: str = instance.client_secret, **options: Any) -> MarketoClient:
            credentials = Credentials(instance.url, instance.client_id, secret, ca_bundle=instance.ca_bundle)
            options = {"sleep": lambda seconds: None, "retry_budget_seconds": 20} | options
            return stack.enter_context(MarketoClient(credentials, **({"limits": CallLimits(100, 10)} | options)))

        yield start


@pytest.fixture
def client(open_client: OpenAgain) -> MarketoClient:
    return open_client()


@pytest.mark.parametrize("name", OBJECTS)
def test_every_object_describes_the_keys_we_send(client: MarketoClient, name: str) -> None:
    found = client.describe(name)
    assert set(OBJECTS[name].dedupe_fields) <= set(found.fields)
    if name != "leads":
        assert found.dedupe_fields == OBJECTS[name].dedupe_fields
    assert ("email" if name == "leads" else OBJECTS[name].dedupe_fields[0],) in found.searchable_fields


def test_opportunities_and_roles_live_from_creation_to_deletion(
    client: MarketoClient, instance: MarketoEmulator
) -> None:
    (lead,) = client.upsert("leads", [{"email": "ann@example.com"}])
    assert client.upsert("opportunities", [OPPORTUNITY])[0].status == "created"
    assert client.upsert("opportunities", [OPPORTUNITY | {"name": "Bigger deal"}])[0].status == "updated"
    key = KEY | {"leadId": int(str(lead.marketo_id)), "role": "Decision Maker"}
    (role,) = client.upsert("opportunities/roles", [key | {"isPrimary": True}])
    assert role.status == "created"
    (found,) = client.lookup_keys("opportunities/roles", [key, key | {"role": "User"}], ["isPrimary", "marketoGUID"])
    assert (found["isPrimary"], found["marketoGUID"]) == (True, role.marketo_id)
    (found,) = client.lookup("opportunities", "externalOpportunityId", ["o1", "o2"], ["name"])
    assert found["name"] == "Bigger deal"
    (found,) = client.lookup("leads", "email", ["ann@example.com", "nobody@example.com"], ["id", "email"])
    assert str(found["id"]) == lead.marketo_id
    assert client.delete("opportunities/roles", [key])[0].status == "deleted"
    assert client.delete("opportunities", [KEY])[0].status == "deleted"
    assert client.delete("opportunities", [KEY])[0].code == OBJECT_ABSENT
    assert instance.records("opportunities") == instance.records("opportunities/roles") == []


def test_a_lookup_with_more_finds_than_a_page_reads_them_all(client: MarketoClient, instance: MarketoEmulator) -> None:
    leads = instance.upsert("leads", [{"email": f"p{n}@example.com"} for n in range(310)])
    instance.upsert("opportunities", [OPPORTUNITY])
    instance.upsert("opportunities/roles", [KEY | {"leadId": lead["id"], "role": "User"} for lead in leads])
    found = client.lookup("opportunities/roles", "externalOpportunityId", ["o1"], ["leadId"])
    assert len({row["leadId"] for row in found}) == len(found) == 310


def test_300_long_values_fit_one_call(client: MarketoClient, instance: MarketoEmulator) -> None:
    values = [f"{'x' * 60}{n}@example.com" for n in range(300)]
    instance.upsert("leads", [{"email": value} for value in values])
    assert {row["email"] for row in client.lookup("leads", "email", values, ["email"])} == set(values)


def test_a_batch_of_each_largest_size_is_taken(client: MarketoClient) -> None:
    records = [{"externalOpportunityId": str(n), "name": "n" * 255, "description": "d" * 1900} for n in range(700)]
    batches = list(client.batches(records))
    assert len(batches) == 3
    assert {result.status for batch in batches for result in client.upsert("opportunities", batch)} == {"created"}
    records = [each | {"description": "é" * 1990} for each in records[:300]]
    batches = list(client.batches(records))
    assert len(batches) == 2
    assert {result.status for batch in batches for result in client.upsert("opportunities", batch)} == {"updated"}


def test_with_native_sync_on_nothing_is_loaded(client: MarketoClient, instance: MarketoEmulator) -> None:
    instance.set_native_crm_sync(on=True)
    with pytest.raises(NativeSyncOnError, match="native CRM sync on"):
        client.describe("opportunities/roles")
    with pytest.raises(NativeSyncOnError, match="1018 to records of opportunities"):
        client.upsert("opportunities", [OPPORTUNITY])
    with pytest.raises(NativeSyncOnError, match="1018 to records of opportunities"):
        client.delete("opportunities", [KEY])
    assert instance.records("opportunities") == []


def test_a_missing_permission_is_named(client: MarketoClient, instance: MarketoEmulator) -> None:
    instance.set_access(opportunities="read", companies="none")
    client.describe("opportunities")
    with pytest.raises(MarketoPermissionError, match="Read-Write Named Opportunity"):
        client.upsert("opportunities", [OPPORTUNITY])
    with pytest.raises(MarketoPermissionError, match="Read-Only Company"):
        client.describe("companies")


def test_a_switched_off_feature_is_told_from_a_missing_permission(
    client: MarketoClient, instance: MarketoEmulator
) -> None:
    instance.set_feature("companies", on=False)
    with pytest.raises(FeatureNotEnabledError):
        client.describe("companies")


def test_a_field_that_cannot_be_searched_is_refused(client: MarketoClient) -> None:
    with pytest.raises(MarketoRefusedError) as caught:
        client.lookup("leads", "firstName", ["Ann"], ["id"])
    assert caught.value.code == 1011


def test_a_wrong_secret_is_refused(open_client: OpenAgain) -> None:
    with pytest.raises(MarketoAuthenticationError, match="client id or client secret"):
        open_client(secret="wrong").usage_today()


@pytest.mark.parametrize("end", ["revoke_tokens", "expire_tokens"])
def test_a_token_that_ends_in_the_middle_of_a_run_is_replaced(
    client: MarketoClient, instance: MarketoEmulator, end: str
) -> None:
    client.upsert("opportunities", [OPPORTUNITY])
    getattr(instance, end)()
    assert client.upsert("opportunities", [OPPORTUNITY])[0].status == "updated"


@pytest.mark.parametrize("how", ["reset", "status", "html"])
def test_an_answer_lost_after_the_write_took_effect_leaves_one_record(
    client: MarketoClient, instance: MarketoEmulator, how: str
) -> None:
    lost = {"action": "lost", "how": how, "object": "opportunities", "method": "POST", "times": 1}
    instance.set_faults([lost])
    (result,) = client.upsert("opportunities", [OPPORTUNITY])
    assert result.status == "updated"
    assert len(instance.records("opportunities")) == 1
    instance.set_faults([lost])
    (result,) = client.delete("opportunities", [KEY])
    assert (result.status, result.code) == ("skipped", OBJECT_ABSENT)
    assert instance.records("opportunities") == []


@pytest.mark.parametrize("code", [604, 606, 608, 611, 614, 615, 713])
def test_a_passing_error_is_survived(client: MarketoClient, instance: MarketoEmulator, code: int) -> None:
    instance.set_faults([{"action": "error", "code": code, "object": "opportunities", "times": 2}])
    assert client.upsert("opportunities", [OPPORTUNITY])[0].status == "created"


def test_a_used_up_quota_stops_and_the_next_day_goes_on(open_client: OpenAgain, instance: MarketoEmulator) -> None:
    client = open_client(retry_budget_seconds=0)
    client.upsert("opportunities", [OPPORTUNITY])
    instance.set_used_today(50_000)
    with pytest.raises(QuotaUsedUpError, match="607"):
        client.upsert("opportunities", [OPPORTUNITY])
    instance.advance_to_quota_reset()
    assert client.upsert("opportunities", [OPPORTUNITY])[0].status == "updated"


def test_the_budget_leaves_the_rest_of_the_quota_to_others(open_client: OpenAgain, instance: MarketoEmulator) -> None:
    instance.set_used_today(44_999)
    with pytest.raises(QuotaUsedUpError, match="daily_calls is 45000"):
        open_client(retry_budget_seconds=0).upsert("opportunities", [OPPORTUNITY])
    assert instance.records("opportunities") == []
    assert instance.used_today < 45_010


@pytest.mark.slow
def test_no_twenty_seconds_at_the_instance_see_more_calls_than_allowed(
    open_client: OpenAgain, instance: MarketoEmulator
) -> None:
    instance.set_latency(30)
    client = open_client(limits=CallLimits(50, 5))
    with ThreadPoolExecutor(10) as pool:
        results = list(pool.map(lambda n: client.upsert("opportunities", [OPPORTUNITY | {"name": str(n)}]), range(60)))
    assert len(results) == 60
    assert instance.counters.highest_in_window <= 50
    assert instance.counters.highest_open <= 5
    assert instance.counters.codes.get("606", 0) == instance.counters.codes.get("615", 0) == 0
    assert client.calls_made == 61
