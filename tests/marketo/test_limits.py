from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from opportunity_sync.marketo.errors import QuotaUsedUpError, seconds_until_reset
from opportunity_sync.marketo.limits import CALLS_PER_READING, CallLimits, DailyBudget, limits_of

pytestmark = pytest.mark.slow

NOON = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
"""In the zone of the quota (UTC-6 in winter)."""


class Time:
    """A clock that waits by moving on."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def most_within(moments: list[float], seconds: float) -> int:
    return max(sum(start <= moment < start + seconds for moment in moments) for start in moments)


def test_calls_beyond_the_allowance_wait_until_twenty_seconds_after_the_answer_to_the_first() -> None:
    clock = Time()
    limits = CallLimits(3, 1, clock=clock, sleep=clock.sleep)
    sent = []
    for _ in range(7):
        with limits.call():
            sent.append(clock.now)
            clock.now += 2  # the answer takes its time
    assert sent == [1000, 1002, 1004, 1022, 1024, 1026, 1044]
    assert clock.waits == [16, 16]


def test_a_call_that_failed_keeps_its_permit_as_long() -> None:
    clock = Time()
    limits = CallLimits(1, 1, clock=clock, sleep=clock.sleep)
    with pytest.raises(ZeroDivisionError), limits.call():
        raise ZeroDivisionError
    with limits.call():
        assert clock.now == 1020


def test_no_window_at_the_service_holds_more_calls_however_long_each_is_on_its_way() -> None:
    limits = CallLimits(10, 5, window_seconds=0.5)
    arrived: list[float] = []
    lock = threading.Lock()

    def call(number: int) -> None:
        with limits.call():
            time.sleep(0.2 if number % 13 == 0 else 0.005)  # on its way; the first ones connect and sign in
            with lock:
                arrived.append(time.monotonic())
            time.sleep(0.01)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(call, range(35)))
    assert len(arrived) == 35
    assert most_within(arrived, 0.5) <= 10


def test_no_more_calls_at_once_than_allowed_whoever_calls() -> None:
    limits = CallLimits(100, 3)
    lock, now, most = threading.Lock(), 0, 0

    def call(_: int) -> None:
        nonlocal now, most
        with limits.call():
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.02)
            with lock:
                now -= 1

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(call, range(24)))
    assert most == 3


def test_all_clients_of_an_instance_share_its_limits() -> None:
    assert limits_of("https://a.example") is limits_of("https://a.example")
    assert limits_of("https://a.example") is not limits_of("https://b.example")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ((0, 5), "calls_per_20_seconds is 0; allowed: 1 to 100"),
        ((101, 5), "calls_per_20_seconds is 101; allowed: 1 to 100"),
        ((50, 0), "concurrent_calls is 0; allowed: 1 to 10"),
        ((50, 11), "concurrent_calls is 11; allowed: 1 to 10"),
    ],
)
def test_limits_beyond_marketos_own_are_refused(wrong: tuple[int, int], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        CallLimits(*wrong)
    CallLimits(100, 10)


def test_a_call_is_refused_before_it_is_sent_once_the_days_calls_are_used_up() -> None:
    budget = DailyBudget(10, lambda: 7, now=lambda: NOON)
    for _ in range(3):
        budget.spend()
    with pytest.raises(QuotaUsedUpError, match="has had 10 calls today, and daily_calls is 10") as caught:
        budget.spend()
    assert caught.value.transient
    assert caught.value.retry_after == 12 * 3600 + 60


def test_calls_of_other_integrations_are_seen_by_asking_again() -> None:
    readings = iter([0, 50_000])
    budget = DailyBudget(45_000, lambda: next(readings), now=lambda: NOON)
    for _ in range(CALLS_PER_READING):
        budget.spend()
    with pytest.raises(QuotaUsedUpError, match="has had 50000 calls"):
        budget.spend()


def test_a_new_day_begins_at_midnight_us_central() -> None:
    now = NOON
    readings = iter([10, 0])
    budget = DailyBudget(10, lambda: next(readings), now=lambda: now)
    with pytest.raises(QuotaUsedUpError):
        budget.spend()
    now = datetime(2026, 11, 23, 5, 59, tzinfo=UTC)
    with pytest.raises(QuotaUsedUpError):
        budget.spend()
    now = datetime(2026, 11, 23, 6, 1, tzinfo=UTC)
    budget.spend()


@pytest.mark.parametrize(
    ("now", "hours"),
    [
        (NOON, 12),
        (datetime(2026, 7, 1, 4, 0, tzinfo=UTC), 1),
        (datetime(2026, 11, 1, 5, 0, tzinfo=UTC), 25),  # the day that summer time ends
        (datetime(2026, 3, 8, 6, 0, tzinfo=UTC), 23),  # the day that it begins
    ],
)
def test_the_quota_resets_at_midnight_us_central_summer_and_winter(now: datetime, hours: int) -> None:
    assert timedelta(seconds=seconds_until_reset(now)) == timedelta(hours=hours, minutes=1)
