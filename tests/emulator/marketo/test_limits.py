from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from emulator.marketo.errors import RequestError
from emulator.marketo.limits import Counters, Limits

pytestmark = pytest.mark.slow

USAGE = "stats/usage.json"
START = datetime(2026, 1, 15, 12, tzinfo=UTC)


class _Clock:
    def __init__(self) -> None:
        self.at = START

    def now(self) -> datetime:
        return self.at

    def advance(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


def _refused(limits: Limits) -> int:
    with pytest.raises(RequestError) as caught:
        limits.admit()
    return caught.value.code


def test_the_window_slides(clock: Any) -> None:
    limits = Limits(clock, calls_per_window=3)
    for _ in range(3):
        limits.admit()
        clock.advance(5)
    assert _refused(limits) == 606
    clock.advance(20)
    limits.admit()


def test_refused_calls_keep_the_window_full(clock: Any) -> None:
    limits = Limits(clock, calls_per_window=2)
    limits.admit()
    limits.admit()
    clock.advance(15)
    assert _refused(limits) == 606
    assert _refused(limits) == 606
    clock.advance(6)
    assert _refused(limits) == 606
    clock.advance(21)
    limits.admit()


def test_the_quota_ends_the_day_and_begins_anew_at_midnight_us_central(clock: Any) -> None:
    limits = Limits(clock, daily_quota=2)
    limits.admit()
    limits.admit()
    assert _refused(limits) == 607
    clock.at = datetime(2026, 1, 16, 5, 59, tzinfo=UTC)
    assert _refused(limits) == 607
    clock.at = datetime(2026, 1, 16, 6, 0, tzinfo=UTC)
    limits.admit()
    clock.at = datetime(2026, 7, 16, 4, 59, tzinfo=UTC)
    before = limits.today()
    clock.advance(60)
    assert limits.today() == before + timedelta(days=1)


@pytest.mark.parametrize(("code", "counts"), [(604, 0), (608, 0), (611, 0), (603, 1), (610, 1), (713, 1)])
def test_some_codes_give_the_call_back(clock: Any, code: int, counts: int) -> None:
    limits = Limits(clock, calls_per_window=1)
    limits.note_error(code, limits.admit())
    assert limits.used[limits.today()] == counts
    if counts:
        assert _refused(limits) == 606
    else:
        limits.admit()


def test_counters_measure_the_busiest_window(clock: Any) -> None:
    counters = Counters()
    for seconds in (0, 1, 18.5, 1.5, 30):
        clock.advance(seconds)
        counters.arrived(clock.now(), open_now=1)
    assert counters.highest_in_window == 3
    assert (counters.first_at, counters.last_at) == (START, START + timedelta(seconds=51))


def test_the_server_refuses_the_call_too_many_and_takes_calls_again_later(launch: Callable[..., Any]) -> None:
    api = launch(limits={"calls_per_window": 5})
    codes = [api.get(USAGE).get("errors", [{"code": "0"}])[0]["code"] for _ in range(7)]
    assert codes == ["0"] * 5 + ["606"] * 2
    assert api.emulator.counters.highest_in_window == 7
    assert api.emulator.counters.codes == {"606": 2}
    api.emulator.advance_clock(21)
    assert api.get(USAGE)["success"]


def test_tokens_and_controls_are_no_calls(launch: Callable[..., Any]) -> None:
    api = launch(limits={"calls_per_window": 1})
    for _ in range(3):
        api.login()
        assert api.control("GET", "health")[0] == 200
    assert (api.emulator.used_today, api.emulator.counters.calls) == (0, 0)
    assert api.get(USAGE)["success"]


def test_usage_tells_calls_and_errors_of_today(api: Any) -> None:
    api.get("opportunities/describe.json")
    api.get("nonesuch.json")
    (usage,) = api.get(USAGE)["result"]
    assert usage["date"] == str(api.emulator.server.limits.today())
    assert usage["total"] == 3
    assert usage["users"] == [{"userId": "apis@example.com", "count": 3}]
    (errors,) = api.get("stats/errors.json")["result"]
    assert (errors["total"], errors["errors"]) == (1, [{"errorCode": "610", "count": 1}])


def test_the_daily_quota_is_refused_until_the_reset(api: Any) -> None:
    api.emulator.set_used_today(49_999)
    assert api.get(USAGE)["result"][0]["total"] == 50_000
    assert api.code(api.get(USAGE)) == 607
    api.emulator.advance_to_quota_reset()
    api.login()
    assert api.get(USAGE)["result"][0]["total"] == 1
    assert [day["total"] for day in api.get("stats/usage/last7days.json")["result"]] == [2, 50_001]


def test_more_calls_at_once_than_allowed_are_refused(launch: Callable[..., Any]) -> None:
    api = launch(limits={"concurrent_calls": 3}, latency_ms=700)

    def call(_: int) -> str:
        with requests.Session() as session:
            session.trust_env = False
            session.headers["Authorization"] = api.session.headers["Authorization"]
            answer = session.get(f"{api.emulator.url}/rest/v1/{USAGE}", verify=api.emulator.ca_bundle, timeout=20)
        return str(answer.json().get("errors", [{"code": "0"}])[0]["code"])

    with ThreadPoolExecutor(5) as pool:
        codes = sorted(pool.map(call, range(5)))
    assert codes == ["0", "0", "0", "615", "615"]
    assert api.emulator.counters.highest_open >= 4
    api.emulator.set_latency(0)
    assert api.get(USAGE)["success"]


def test_an_unknown_limit_is_named(api: Any) -> None:
    with pytest.raises(ValueError, match="calls_per_hour"):
        api.emulator.set_limits(calls_per_hour=1)


def test_counters_tell_calls_by_address_results_and_writes(api: Any) -> None:
    api.sync("opportunities", [{"externalOpportunityId": "o", "name": "n"}, {"externalOpportunityId": "p"}])
    api.delete("opportunities", [{"externalOpportunityId": "o"}])
    api.get("opportunities.json", filterType="dedupeFields", filterValues="o")
    counters = api.emulator.counters
    assert counters.endpoints == {
        "POST /rest/v1/opportunities.json": 1,
        "POST /rest/v1/opportunities/delete.json": 1,
        "GET /rest/v1/opportunities.json": 1,
    }
    assert counters.records == {"opportunities created": 1, "opportunities skipped": 1, "opportunities deleted": 1}
    assert (counters.calls, counters.writes) == (3, 2)
    api.emulator.forget()
    assert (api.emulator.counters.calls, api.emulator.requests) == (0, [])
