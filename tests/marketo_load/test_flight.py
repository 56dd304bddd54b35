from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from opportunity_sync.marketo_load.flight import run_calls


def test_no_more_calls_are_in_the_air_than_allowed_and_all_are_used() -> None:
    barrier, lock = threading.Barrier(3, timeout=10), threading.Lock()
    flying, most, settled = 0, 0, []

    def call(item: int) -> int:
        nonlocal flying, most
        with lock:
            flying += 1
            most = max(most, flying)
        barrier.wait()
        with lock:
            flying -= 1
        return -item

    run_calls(range(9), call, lambda item, answer: settled.append((item, answer)), at_once=3)
    assert most == 3
    assert sorted(settled) == [(item, -item) for item in range(9)]


def test_an_item_is_taken_only_when_a_call_may_start() -> None:
    taken: list[int] = []
    settled: list[int] = []

    def items() -> Iterator[int]:
        for item in range(20):
            assert len(taken) - len(settled) < 4
            taken.append(item)
            yield item

    run_calls(items(), lambda item: item, lambda item, _: settled.append(item), at_once=4)
    assert sorted(settled) == list(range(20))


def test_after_an_error_nothing_more_is_sent_and_what_is_in_the_air_is_settled() -> None:
    failed, sent, settled = threading.Event(), [], []

    def items() -> Iterator[str]:
        for item in ("slow", "fails", "late", "never"):
            sent.append(item)
            yield item

    def call(item: str) -> str:
        if item == "fails":
            failed.set()
            raise ValueError(item)
        assert failed.wait(10)
        return item

    with pytest.raises(ValueError, match="fails"):
        run_calls(items(), call, lambda item, _: settled.append(item), at_once=2)
    assert "slow" in settled
    assert "never" not in sent


def test_what_is_in_the_air_is_settled_when_taking_the_next_item_fails() -> None:
    settled: list[int] = []

    def items() -> Iterator[int]:
        yield 1
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run_calls(items(), lambda item: item, lambda item, _: settled.append(item), at_once=5)
    assert settled == [1]
