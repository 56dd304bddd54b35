"""One retry policy for all calls: growing, jittered waits, `Retry-After` honoured, a cap on the total."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception

from opportunity_sync.errors import OpportunitySyncError

T = TypeVar("T")

log = logging.getLogger(__name__)

LONGEST_BACKOFF_SECONDS = 60.0


def with_retries(call: Callable[[], T], *, budget_seconds: float, sleep: Callable[[float], None] = time.sleep) -> T:
    """Call until it succeeds, fails for good, or the next wait would pass the budget.

    Args:
        call: raises errors with `transient` and `retry_after`.
        budget_seconds: longest time from the first call to the last, in seconds.
        sleep: waits that many seconds.

    Raises:
        OpportunitySyncError: the last error; of a transient one, a note says how often and how long it was tried.
    """

    def out_of_budget(state: RetryCallState) -> bool:
        elapsed = max(state.seconds_since_start or 0.0, state.idle_for)
        if elapsed + state.upcoming_sleep <= budget_seconds:
            return False
        error = _error(state)
        note = f"Given up after {state.attempt_number} tries in {elapsed:.0f} s (limit {budget_seconds:.0f} s)"
        error.add_note(note)
        log.warning("%s %s", error.what, note)
        return True

    retrying = Retrying(
        retry=retry_if_exception(lambda error: isinstance(error, OpportunitySyncError) and error.transient),
        wait=_wait_seconds,
        stop=out_of_budget,
        before_sleep=_log_wait,
        sleep=sleep,
        reraise=True,
    )
    return retrying(call)


def _wait_seconds(state: RetryCallState) -> float:
    """What the service asked for plus up to a tenth, or a growing wait of which up to half is random."""
    asked = _error(state).retry_after
    if asked is not None:
        return asked + random.uniform(0, min(1.0, asked / 10))  # noqa: S311
    longest = min(LONGEST_BACKOFF_SECONDS, 2.0 ** (state.attempt_number - 1))
    return random.uniform(longest / 2, longest)  # noqa: S311


def _log_wait(state: RetryCallState) -> None:
    log.warning("%s; try %d, waiting %.1f s", _error(state).what, state.attempt_number, state.upcoming_sleep)


def _error(state: RetryCallState) -> OpportunitySyncError:
    error = state.outcome.exception() if state.outcome else None
    if not isinstance(error, OpportunitySyncError):
        raise TypeError(f"not an error of this package: {error!r}")
    return error
