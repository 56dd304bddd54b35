"""The one sentence: each rule, and that they are asked in order."""

from __future__ import annotations

from datetime import timedelta

import pytest

from opportunity_sync.pages.health import FailedCandidate, LiveState, Source, verdict

HOUR = timedelta(hours=1)
MAX_AGE = 6 * HOUR


def live(*, ages: tuple[timedelta | None, ...] = (HOUR / 5, HOUR), critical: int = 0, warnings: int = 0) -> LiveState:
    sources = [Source(f"table{index}", 1, "", age) for index, age in enumerate(ages)]
    return LiveState("R1", timedelta(minutes=12), sources, critical, warnings)


@pytest.mark.parametrize(("warnings", "told"), [(0, "no warnings"), (1, "1 warning"), (4, "4 warnings")])
def test_fresh_tables_and_no_critical_failure_are_healthy_and_warnings_are_counted(warnings: int, told: str) -> None:
    found = verdict(live(warnings=warnings), None, max_age=MAX_AGE)
    assert found.state == "healthy"
    assert found.sentence == (
        f"Healthy: release R1 is 12 minutes old, all 2 tables are fresh, no critical expectation failed; {told}."
    )


def test_a_table_older_than_allowed_is_not_healthy() -> None:
    found = verdict(live(ages=(HOUR, 9 * HOUR)), None, max_age=MAX_AGE)
    assert found.state == "unhealthy"
    assert found.sentence == (
        "Not healthy: table table1 was last read 9 hours ago, more than the 6 hours allowed; "
        "release R1 is 12 minutes old."
    )


def test_a_table_exactly_as_old_as_allowed_is_healthy() -> None:
    assert verdict(live(ages=(MAX_AGE,)), None, max_age=MAX_AGE).state == "healthy"


def test_a_table_that_was_never_fully_read_is_not_healthy() -> None:
    found = verdict(live(ages=(None, 9 * HOUR, None)), None, max_age=MAX_AGE)
    assert found.sentence == "Not healthy: tables table0, table2 were never fully read; release R1 is 12 minutes old."


def test_a_critical_failure_in_the_live_release_is_not_healthy() -> None:
    found = verdict(live(critical=2), None, max_age=MAX_AGE)
    assert found.sentence == "Not healthy: 2 critical expectations failed; release R1 is 12 minutes old."


def test_a_refused_candidate_counts_more_than_everything_in_the_live_release() -> None:
    found = verdict(live(ages=(None,), critical=1), FailedCandidate("R2", 1), max_age=MAX_AGE)
    assert found.state == "unhealthy"
    assert found.sentence == (
        "Not healthy: release R2 failed validation (1 critical expectation) and was not published; "
        "the live release R1 is 12 minutes old."
    )


def test_without_a_release_there_is_none_yet_unless_a_candidate_was_refused() -> None:
    assert verdict(None, None, max_age=MAX_AGE).state == "empty"
    found = verdict(None, FailedCandidate("R2", 3), max_age=MAX_AGE)
    assert found.state == "unhealthy"
    assert found.sentence == (
        "Not healthy: release R2 failed validation (3 critical expectations) and was not published, "
        "and there is no release yet."
    )


def test_a_live_file_that_cannot_be_read_counts_most() -> None:
    found = verdict(live(), FailedCandidate("R2", 1), max_age=MAX_AGE, problem="it is damaged.")
    assert (found.state, found.sentence) == ("unhealthy", "Not healthy: it is damaged.")
