from __future__ import annotations

from datetime import timedelta

import pytest

from opportunity_sync.errors import OpportunitySyncError, ValidationFailedError


def _error(*, transient: bool, retry_after: float | None = None) -> OpportunitySyncError:
    error = OpportunitySyncError("What", state="state", action="action")
    error.transient, error.retry_after = transient, retry_after
    return error


@pytest.mark.parametrize(
    ("error", "action", "delay"),
    [
        (_error(transient=False), "fail", None),
        (ValidationFailedError("What", state="state", action="action"), "fail", None),
        (_error(transient=True), "default", None),
        (_error(transient=True, retry_after=90), "retry", timedelta(seconds=90)),
        (KeyError("a bug"), "default", None),
        (OSError("a lost disk"), "default", None),
    ],
    ids=["needs a person", "validation", "transient", "with Retry-After", "bug", "operating system"],
)
def test_the_error_decides_whether_and_when_to_retry(error: Exception, action: str, delay: timedelta | None) -> None:
    from opportunity_sync.retries import RetryTransientErrors

    decision = RetryTransientErrors().evaluate(error, try_number=1, max_tries=3)
    assert (decision.action.value, decision.retry_delay) == (action, delay)


def test_a_service_that_names_no_wait_of_its_own_gets_the_growing_delay_of_the_task() -> None:
    from opportunity_sync.retries import RetryTransientErrors

    assert RetryTransientErrors().evaluate(_error(transient=True), 1, 3).retry_delay is None


def test_the_policy_survives_serialization() -> None:
    from opportunity_sync.retries import RetryTransientErrors

    restored = RetryTransientErrors.deserialize(RetryTransientErrors().serialize())
    assert restored.evaluate(_error(transient=False), 1, 3).action.value == "fail"
