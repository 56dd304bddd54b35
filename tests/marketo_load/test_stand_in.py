"""The whole stage over HTTPS against the stand-in for Marketo, with its limits, its faults and `kill -9`."""

from __future__ import annotations

import multiprocessing
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from emulator.marketo.server import MarketoEmulator, running
from opportunity_sync.marketo.auth import Credentials
from opportunity_sync.marketo.client import MarketoClient
from opportunity_sync.marketo.errors import NativeSyncOnError
from opportunity_sync.marketo.limits import CallLimits
from opportunity_sync.marketo_load import load
from opportunity_sync.settings import Settings
from tests.marketo_load.instances import ROLES
from tests.marketo_load.releases import contact, key, opportunity, publish, role, settings_for

pytestmark = pytest.mark.slow

CONTACTS = [f"c{n}" for n in range(200)]
KILLS = 15


@pytest.fixture
def instance(tls_dir: Path) -> Iterator[MarketoEmulator]:
    """An instance without limits on calls, which have tests of their own; every fourth contact has no lead."""
    limits = {"calls_per_window": 100_000, "concurrent_calls": 10, "daily_quota": 1_000_000}
    with running(tls_dir=tls_dir, limits=limits) as emulator:
        emulator.upsert("leads", [{"email": f"{name}@example.com"} for n, name in enumerate(CONTACTS) if n % 4])
        yield emulator


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path / "data")


def credentials_of(instance: MarketoEmulator) -> Credentials:
    return Credentials(instance.url, instance.client_id, instance.client_secret, instance.ca_bundle)


def connect(credentials: Credentials) -> MarketoClient:
    """A client that waits neither for the window of 20 seconds nor between tries."""
    limits = CallLimits(100, 10, sleep=lambda seconds: None, window_seconds=0)
    return MarketoClient(credentials, limits=limits, daily_calls=1_000_000, sleep=lambda seconds: None)


def load_once(settings: Settings, credentials: Credentials) -> dict[str, dict[str, int]]:
    with connect(credentials) as client:
        return load(client, settings, accept_deletes=True).sent


def random_release(chance: random.Random) -> dict[str, list[dict[str, Any]]]:
    """Some 900 opportunities of 1200 with 1,000 roles."""
    names = chance.sample([f"o{n}" for n in range(1200)], 900)
    roles = {
        (chance.choice(names), chance.choice(CONTACTS), chance.choice(["Champion", "Sponsor", "x" * 60]))
        for _ in range(1000)
    }
    return {
        "opportunities": [opportunity(name, state=chance.choice(["Open", "Won"])) for name in names],
        "opportunity_contact_roles": [
            role(o, c, text, is_primary=chance.random() < 0.3) for o, c, text in sorted(roles)
        ],
        "contacts": [contact(name) for name in CONTACTS],
    }


def check_equal(instance: MarketoEmulator, release: dict[str, list[dict[str, Any]]]) -> None:
    """Marketo holds what the release says: no more, no less, nothing stale."""
    found = {each["externalOpportunityId"]: each["stage"] for each in instance.records("opportunities")}
    assert found == {key(each["opportunity_id"]): each["state"] for each in release["opportunities"]}
    leads = {each["email"]: each["id"] for each in instance.records("leads")}
    roles = {
        (each["externalOpportunityId"], each["leadId"], each["role"][:42]): each["isPrimary"]
        for each in instance.records(ROLES)
    }
    assert roles == {
        (key(each["opportunity_id"]), leads[f"{each['contact_id']}@example.com"], each["role"][:42]): each["is_primary"]
        for each in release["opportunity_contact_roles"]
        if f"{each['contact_id']}@example.com" in leads
    }


def test_releases_under_faults_converge_and_the_last_run_writes_nothing(
    settings: Settings, instance: MarketoEmulator
) -> None:
    chance = random.Random(4)
    faults: list[list[dict[str, Any]]] = [
        [{"action": "lost", "how": "reset", "every": 3}],
        [{"action": "error", "code": 713, "every": 3}, {"action": "html", "every": 4}],
        [{"action": "lost", "how": "html", "every": 2}, {"action": "revoke", "nth": 5}],
    ]
    for number, rules in enumerate([[], *faults]):
        instance.set_faults(rules)
        release = random_release(chance)
        publish(settings, f"r{number}", **release)
        load_once(settings, credentials_of(instance))
        check_equal(instance, release)
    instance.set_faults([])
    assert load_once(settings, credentials_of(instance)) == {"opportunities": {}, ROLES: {}}


def test_changes_cost_no_more_calls_than_their_records_need(settings: Settings, instance: MarketoEmulator) -> None:
    names = [f"o{n}" for n in range(900)]
    roles = [role(name, "c1") for name in names]
    rows: dict[str, Any] = {"contacts": [contact("c1")]}
    publish(settings, opportunities=[opportunity(name) for name in names], opportunity_contact_roles=roles, **rows)
    load_once(settings, credentials_of(instance))
    changed = [opportunity(name, state="Won") for name in names[:500]] + [opportunity(name) for name in names[500:800]]
    kept = [role(name, "c1", is_primary=True) for name in names[:301]] + roles[301:800]
    publish(settings, "r2", opportunities=changed, opportunity_contact_roles=kept, **rows)
    instance.forget()
    assert load_once(settings, credentials_of(instance)) == {
        "opportunities": {"updated": 500, "deleted": 100},
        ROLES: {"updated": 301, "deleted": 100},
    }
    paths = Counter(each.path.removeprefix("/rest/v1/").removesuffix(".json") for each in instance.requests)
    assert paths == {
        "opportunities/describe": 1,
        "opportunities/roles/describe": 1,
        "leads/describe2": 1,
        "stats/usage": 1,
        "opportunities": 2,
        "opportunities/roles": 2,
        "opportunities/delete": 1,
        "opportunities/roles/delete": 1,
    }


def test_loads_killed_at_random_moments_are_continued(settings: Settings, instance: MarketoEmulator) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["duckdb", "tests.marketo_load.test_stand_in"])
    chance = random.Random(20261122)
    credentials = credentials_of(instance)

    def start() -> Any:
        process = context.Process(target=load_once, args=(settings, credentials))
        process.start()
        return process

    publish(settings, "first", **random_release(chance))
    begun = time.monotonic()
    first = start()
    first.join()
    assert first.exitcode == 0
    duration = time.monotonic() - begun
    survived = 0
    for number in range(KILLS):
        publish(settings, f"r{number}", **random_release(chance))
        process = start()
        process.join(timeout=chance.uniform(0.1, 1.0) * duration)
        survived += process.exitcode == 0
        process.kill()
        process.join()
    assert survived < KILLS, "no run was killed: the delays are too long"
    release = random_release(chance)
    publish(settings, "last", **release)
    load_once(settings, credentials)
    check_equal(instance, release)
    assert load_once(settings, credentials) == {"opportunities": {}, ROLES: {}}


def test_nothing_is_written_into_an_instance_with_native_sync(settings: Settings, instance: MarketoEmulator) -> None:
    publish(settings, opportunities=[opportunity("o1")])
    instance.set_native_crm_sync(True)
    with pytest.raises(NativeSyncOnError, match="native CRM sync on"):
        load_once(settings, credentials_of(instance))
    assert instance.records("opportunities") == []


@pytest.mark.parametrize("field", ["dynamicsContactId", "externalPersonId"])
def test_leads_are_found_by_a_field_that_holds_the_contact_id(
    tmp_path: Path, instance: MarketoEmulator, edit_rules: Callable[[str, str], Path], field: str
) -> None:
    include = edit_rules("  field: email\n  column: email", f"  field: {field}\n  column: contact_id")
    instance.upsert("leads", [{field: key("c1"), "email": "old@example.com"}])
    settings = settings_for(tmp_path / "data", include=include)
    roles = [role("o1", "c1"), role("o1", "c2")]
    publish(
        settings,
        opportunities=[opportunity("o1")],
        opportunity_contact_roles=roles,
        contacts=[contact("c1"), contact("c2")],
    )
    assert load_once(settings, credentials_of(instance))[ROLES] == {"created": 1}
    (lead,) = (each["id"] for each in instance.records("leads") if each.get(field) == key("c1"))
    assert [each["leadId"] for each in instance.records(ROLES)] == [lead]


def test_opportunities_and_companies_belong_together_where_both_are_mapped(
    tmp_path: Path, instance: MarketoEmulator, edit_rules: Callable[[str, str], Path]
) -> None:
    edit_rules("load: false", "load: true")
    include = edit_rules("    stage: state", "    stage: state\n    externalCompanyId: account_id")
    settings = settings_for(tmp_path / "data", include=include)
    accounts = [{"account_id": "a1", "name": "Contoso"}]
    publish(settings, opportunities=[opportunity("o1", account_id="a1")], accounts=accounts)
    load_once(settings, credentials_of(instance))
    assert [each["externalCompanyId"] for each in instance.records("opportunities")] == [key("a1")]
    assert [(each["externalCompanyId"], each["company"]) for each in instance.records("companies")] == [
        (key("a1"), "Contoso")
    ]
