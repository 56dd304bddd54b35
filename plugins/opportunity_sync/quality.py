"""The quality report: one HTML file per candidate that says how sound it is, for people without Airflow.

It needs nothing but itself and can be mailed. It holds counts, keys and words for expectations; no other values of
rows, so neither names nor addresses of people.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opportunity_sync.data_root import write_atomically
from opportunity_sync.expectations import Outcome, result_word
from opportunity_sync.expectations.words import about, in_words
from opportunity_sync.release import DATABASE, MAIN_TABLES, QUALITY, Release
from opportunity_sync.settings import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TEMPLATE = "quality_report.html"
SHOWN = 24
"""Releases that trends go back."""

log = logging.getLogger("opportunity_sync.validate")


@dataclass(frozen=True)
class Result:
    """An expectation as the report shows it."""

    outcome: Outcome
    sentence: str
    word: str
    """`passed`, `warned` or `failed`."""
    trend: list[str]
    """Results of the last releases, oldest first, without those before it was first evaluated."""


@dataclass(frozen=True)
class Rows:
    """How many rows a table has."""

    table: str
    count: int
    change: int | None
    """Against the release before; None when there was none."""
    trend: list[tuple[str, float]]
    """Release and count, oldest first; empty for tables of which earlier counts are not kept."""


@dataclass(frozen=True)
class Source:
    """How fresh a Dataverse table is."""

    table: str
    rows: int
    as_of: datetime | None
    age: timedelta | None
    """When the report was made; None: never fully read."""
    is_fresh: bool


@dataclass(frozen=True)
class Recorded:
    """What the report takes from the candidate's own file."""

    sources: list[Source]
    counts: list[dict[str, Any]]
    """The last releases with the rows of the main tables, oldest first; the candidate is the last one."""
    results: Mapping[tuple[str | None, ...], Mapping[str, str]]
    """Per expectation its result by release."""
    is_complete: bool = True
    """False when some of it could not be read, because the candidate lacks a table or column."""


def write_quality(
    settings: Settings, folder: Path, release: Release, outcomes: Sequence[Outcome], live: Release | None, now: datetime
) -> None:
    """Write `quality.html` into a candidate's folder, whose `expectation_results` are filled.

    A template that is missing or does not fit is logged: no report is worth stopping a release, or hiding why
    validation stopped it. `opportunity-sync status` then says that there is none.

    Args:
        settings: say where the template is, and what counts as fresh.
        folder: the candidate's.
        release: the candidate, after validation.
        outcomes: what validation found.
        live: the release before it, which stays live if the candidate failed.
        now: when the candidate was validated.
    """
    from jinja2 import TemplateError

    try:
        page = report(settings, folder, release, outcomes, live, now)
    except TemplateError as error:
        log.warning("validate: no %s for %s: %s: %s", QUALITY, release.release_id, type(error).__name__, error)
        (folder / QUALITY).unlink(missing_ok=True)
    else:
        write_atomically(folder / QUALITY, page)


def report(
    settings: Settings, folder: Path, release: Release, outcomes: Sequence[Outcome], live: Release | None, now: datetime
) -> str:
    """The report as HTML; arguments as of `write_quality`."""
    from opportunity_sync.pages import render

    recorded = _read(settings, folder / DATABASE, release, now)
    results = [_result(outcome, recorded, release) for outcome in outcomes]
    failed, warned, passed = (
        [each for each in results if each.word == word] for word in ("failed", "warned", "passed")
    )
    return render(
        settings,
        TEMPLATE,
        release=release,
        previous=live,
        validated_at=now,
        verdict=verdict(len(results), len(failed), len(warned), live),
        failed=failed,
        warned=warned,
        passed=_by_relation(passed),
        passed_count=len(passed),
        rows=[_rows(table, release, live, recorded) for table in release.rows],
        sources=recorded.sources,
        releases=len(recorded.counts),
        is_complete=recorded.is_complete,
        freshness=timedelta(hours=settings.freshness_hours),
    )


def verdict(checked: int, failed: int, warned: int, live: Release | None) -> str:
    """How sound the candidate is, in one sentence."""
    if failed:
        kept = f"release {live.release_id} stays live" if live else "there is no release yet"
        return f"Refused: {_count(failed, 'critical expectation')} of {checked} failed, so it is not published; {kept}."
    if warned:
        return f"Sound: nothing critical failed; {_count(warned, 'warning')} among {checked} expectations."
    return f"Sound: all {checked} expectations were met."


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _result(outcome: Outcome, recorded: Recorded, release: Release) -> Result:
    identity = (outcome.suite, outcome.relation, outcome.expectation, outcome.column_name)
    by_release = dict(recorded.results.get(identity, {}))
    word = by_release[release.release_id] = result_word(
        "critical" if outcome.stops else outcome.severity, success=outcome.success
    )
    releases = list(dict.fromkeys([*(each["release_id"] for each in recorded.counts), release.release_id]))
    first = next(index for index, name in enumerate(releases) if name in by_release)
    return Result(
        outcome=outcome,
        sentence=in_words(outcome.relation, outcome.expectation, outcome.column_name, outcome.kwargs),
        word=word,
        trend=[by_release.get(name, "missing") for name in releases[first:]],
    )


def _by_relation(results: Sequence[Result]) -> dict[str, list[Result]]:
    grouped: dict[str, list[Result]] = {}
    for each in results:
        grouped.setdefault(about(each.outcome.suite, each.outcome.relation), []).append(each)
    return grouped


def _rows(table: str, release: Release, live: Release | None, recorded: Recorded) -> Rows:
    count, before = release.rows[table], live.rows.get(table) if live else None
    return Rows(
        table=table,
        count=count,
        change=None if before is None else count - before,
        trend=[(each["release_id"], each[table]) for each in recorded.counts] if table in MAIN_TABLES else [],
    )


def _read(settings: Settings, database: Path, release: Release, now: datetime) -> Recorded:
    """Read the candidate; what it lacks is why it failed, and must not keep the report from saying so."""
    import duckdb

    sources: list[Source] = []
    counts: list[dict[str, Any]] = []
    results: dict[tuple[str | None, ...], dict[str, str]] = {}
    try:
        with duckdb.connect(str(database), read_only=True) as connection:
            sources = _sources(settings, connection, now)
            counts = _counts(connection)
            results = _results(connection, [each["release_id"] for each in counts])
    except duckdb.Error as error:
        log.warning("validate: %s of %s is incomplete (%s)", QUALITY, release.release_id, type(error).__name__)
        return Recorded(sources, counts, results, is_complete=False)
    return Recorded(sources, counts, results)


def _sources(settings: Settings, connection: DuckDBPyConnection, now: datetime) -> list[Source]:
    found = []
    for table, rows, as_of in connection.execute("select table_name, rows, as_of from release_tables").fetchall():
        age = now - as_of.replace(tzinfo=UTC) if as_of else None
        is_fresh = age is not None and age <= timedelta(hours=settings.freshness_hours)
        found.append(Source(table, rows, as_of, age, is_fresh))
    return found


def _counts(connection: DuckDBPyConnection) -> list[dict[str, Any]]:
    names = ("release_id", *MAIN_TABLES)
    rows = connection.execute(
        f"select {', '.join(names)} from releases order by released_at desc, release_id desc limit {SHOWN}"
    ).fetchall()
    return [dict(zip(names, row, strict=True)) for row in reversed(rows)]


def _results(connection: DuckDBPyConnection, releases: list[str]) -> dict[tuple[str | None, ...], dict[str, str]]:
    found: dict[tuple[str | None, ...], dict[str, str]] = {}
    for *identity, release_id, severity, success in connection.execute(
        """
        select suite, relation, expectation, column_name, release_id, severity, success
        from expectation_results_history where list_contains(?, release_id)
        """,
        [releases],
    ).fetchall():
        found.setdefault(tuple(identity), {})[release_id] = result_word(severity, success=success)
    return found
