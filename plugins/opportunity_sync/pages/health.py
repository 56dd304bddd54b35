"""Is the sync healthy? The rules, and the one sentence that says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from opportunity_sync.pages import age as spoken


@dataclass(frozen=True)
class Source:
    """How fresh one source table is."""

    table: str
    rows: int
    read_at: str
    """When it was last read, for people."""
    age: timedelta | None
    """None: it was never fully read."""


@dataclass(frozen=True)
class LiveState:
    """What the rules look at in the live release."""

    release_id: str
    age: timedelta
    sources: Sequence[Source]
    critical: int
    """Critical expectations that failed."""
    warnings: int


@dataclass(frozen=True)
class FailedCandidate:
    """A candidate that validation refused."""

    release_id: str
    critical: int


@dataclass(frozen=True)
class Verdict:
    """The answer."""

    state: Literal["healthy", "unhealthy", "empty"]
    sentence: str


def verdict(
    live: LiveState | None, failed: FailedCandidate | None, *, max_age: timedelta, problem: str | None = None
) -> Verdict:
    """Decide by the first rule that applies.

    1. The live file cannot be read: not healthy.
    2. There is no release: none yet; or not healthy, when a candidate failed.
    3. A candidate that is newer than the live release failed validation: not healthy.
    4. A source table was never fully read, or is older than `max_age`: not healthy.
    5. A critical expectation failed in the live release: not healthy.
    6. Otherwise healthy; warnings are only counted.

    Args:
        live: the live release; None when there is none, or when it cannot be read.
        failed: the newest candidate that failed, if it is newer than the live release.
        max_age: how old a source table may be (`OPPORTUNITY_SYNC_FRESHNESS_HOURS`).
        problem: why the live file cannot be read.
    """
    if problem is not None:
        return Verdict("unhealthy", f"Not healthy: {problem}")
    refused = (
        f"release {failed.release_id} failed validation ({_count(failed.critical, 'critical expectation')}) "
        "and was not published"
        if failed
        else ""
    )
    if live is None:
        if refused:
            return Verdict("unhealthy", f"Not healthy: {refused}, and there is no release yet.")
        return Verdict("empty", "No release yet: it appears with the first successful run of the DAG opportunity_sync.")
    seen = f"release {live.release_id} is {spoken(live.age)} old"
    if refused:
        return Verdict("unhealthy", f"Not healthy: {refused}; the live {seen}.")
    if unread := [source.table for source in live.sources if source.age is None]:
        return Verdict("unhealthy", f"Not healthy: {_tables(unread)} never fully read; {seen}.")
    ages = {source.table: source.age for source in live.sources if source.age is not None}
    if stale := [table for table, found in ages.items() if found > max_age]:
        oldest = max(ages[table] for table in stale)
        return Verdict(
            "unhealthy",
            f"Not healthy: {_tables(stale)} last read {spoken(oldest)} ago, more than the {spoken(max_age)} allowed; "
            f"{seen}.",
        )
    if live.critical:
        return Verdict("unhealthy", f"Not healthy: {_count(live.critical, 'critical expectation')} failed; {seen}.")
    warnings = _count(live.warnings, "warning") if live.warnings else "no warnings"
    return Verdict(
        "healthy",
        f"Healthy: {seen}, all {len(live.sources)} tables are fresh, no critical expectation failed; {warnings}.",
    )


def _tables(names: Sequence[str]) -> str:
    return f"table {names[0]} was" if len(names) == 1 else f"tables {', '.join(names)} were"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
