from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from opportunity_sync.backoff import LONGEST_BACKOFF_SECONDS, with_retries
from opportunity_sync.dataverse.errors import NotAMemberError, ServiceUnavailableError, ThrottledError


def failing(times: int, error: Exception) -> Callable[[], int]:
    calls = iter(range(1, times + 2))

    def call() -> int:
        number = next(calls)
        if number <= times:
            raise error
        return number

    return call


def test_waits_grow_and_are_jittered_up_to_a_longest_one() -> None:
    waits: list[float] = []
    error = ServiceUnavailableError("502", action="wait")
    assert with_retries(failing(10, error), budget_seconds=10_000, sleep=waits.append) == 11
    for number, wait in enumerate(waits):
        longest = min(LONGEST_BACKOFF_SECONDS, 2**number)
        assert longest / 2 <= wait <= longest
    assert len({round(wait / 2**number, 6) for number, wait in enumerate(waits)}) == len(waits)


def test_retry_after_is_honoured() -> None:
    waits: list[float] = []
    error = ThrottledError("429", action="wait", retry_after=37)
    with_retries(failing(3, error), budget_seconds=1000, sleep=waits.append)
    assert all(37 <= wait <= 38 for wait in waits)


def test_the_total_of_all_waits_stays_within_the_budget() -> None:
    waits: list[float] = []
    error = ThrottledError("429", action="wait", retry_after=30)
    with pytest.raises(ThrottledError) as caught:
        with_retries(failing(100, error), budget_seconds=100, sleep=waits.append)
    assert len(waits) == 3
    assert sum(waits) <= 100
    assert caught.value.__notes__ == [f"Given up after 4 tries in {sum(waits):.0f} s (limit 100 s)"]


def test_a_wait_longer_than_the_budget_is_not_begun() -> None:
    waits: list[float] = []
    error = ThrottledError("429", action="wait", retry_after=3600)
    with pytest.raises(ThrottledError) as caught:
        with_retries(failing(1, error), budget_seconds=900, sleep=waits.append)
    assert waits == []
    assert caught.value.retry_after == 3600


@pytest.mark.parametrize("error", [NotAMemberError("403", action="add"), ValueError("bug")])
def test_what_is_not_transient_is_raised_at_once(error: Exception) -> None:
    waits: list[float] = []
    with pytest.raises(type(error)):
        with_retries(failing(1, error), budget_seconds=1000, sleep=waits.append)
    assert waits == []


def test_each_retry_is_logged_as_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    error = ThrottledError("Dataverse answered 429 (0x80072322)", action="wait", retry_after=5)
    with_retries(failing(2, error), budget_seconds=1000, sleep=lambda seconds: None)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "429 (0x80072322); try 1, waiting 5." in caplog.messages[0]
