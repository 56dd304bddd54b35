from __future__ import annotations

import multiprocessing
import time
from pathlib import Path

import pytest

from opportunity_sync.dataverse.slots import request_slot


def hold(folder: Path, limit: int, ready: object) -> None:
    with request_slot(folder, limit):
        ready.set()  # type: ignore[attr-defined]
        time.sleep(60)


class WaitedError(Exception):
    """Somebody had to wait for a slot."""


def refuse_to_wait(seconds: float) -> None:
    raise WaitedError


def test_only_so_many_hold_a_slot_at_once(tmp_path: Path) -> None:
    with (
        request_slot(tmp_path, 2),
        request_slot(tmp_path, 2),
        pytest.raises(WaitedError),
        request_slot(tmp_path, 2, sleep=refuse_to_wait),
    ):
        pass
    with request_slot(tmp_path, 2, sleep=refuse_to_wait):
        pass


def test_a_waiting_read_gets_the_slot_that_is_given_back(tmp_path: Path) -> None:
    held = request_slot(tmp_path, 1)
    held.__enter__()
    waits = []

    def give_back(seconds: float) -> None:
        waits.append(seconds)
        held.__exit__(None, None, None)

    with request_slot(tmp_path, 1, sleep=give_back):
        assert len(waits) == 1


def test_a_lower_limit_admits_nobody_until_enough_have_ended(tmp_path: Path) -> None:
    with (
        request_slot(tmp_path, 3),
        request_slot(tmp_path, 3),
        pytest.raises(WaitedError),
        request_slot(tmp_path, 2, sleep=refuse_to_wait),
    ):
        pass


def test_without_a_limit_nobody_waits_and_nothing_is_written(tmp_path: Path) -> None:
    with request_slot(tmp_path / "slots", None, sleep=refuse_to_wait):
        assert not (tmp_path / "slots").exists()


def test_a_killed_process_gives_its_slot_back(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path, 1, ready))
    process.start()
    assert ready.wait(30)
    with pytest.raises(WaitedError), request_slot(tmp_path, 1, sleep=refuse_to_wait):
        pass
    process.kill()
    process.join()
    with request_slot(tmp_path, 1, sleep=refuse_to_wait):
        pass
