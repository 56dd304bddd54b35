"""Facts of the pages Quality and of one expectation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from opportunity_sync.expectations import Outcome, result_word
from opportunity_sync.pages import moment
from opportunity_sync.pages.live import Live
from opportunity_sync.pages.validation import Refused, Report, read_report

STRIP = 24
"""Releases in the strip of an expectation."""
LISTED = 100
"""Releases in the table of one expectation."""

IDENTITY = ("suite", "relation", "expectation", "column_name")
"""Columns that together name one expectation."""


@dataclass(frozen=True)
class Expectation:
    """One expectation over the last releases."""

    identity: dict[str, str | None]
    severity: str
    result: str
    """A word for the live release: `passed`, `warned`, `failed`, or `missing` when it is no longer evaluated."""
    unexpected_count: int | None
    element_count: int | None
    history: list[str]
    """A word per release, oldest first."""


@dataclass(frozen=True)
class Quality:
    """All expectations of the last releases, those that failed in the live one first."""

    expectations: list[Expectation]
    counts: dict[str, int]
    """Results in the live release."""
    samples: list[Outcome]
    """What failed in the live release, with keys of failing rows."""
    has_report: bool


@dataclass(frozen=True)
class ExpectationFacts:
    """One expectation in detail."""

    expectation: Expectation
    results: list[dict[str, Any]]
    """Per release, newest first."""
    charted: list[tuple[str, int]]
    """Release and number of unexpected rows, oldest first, where it was counted."""
    samples: list[tuple[str, Outcome]]
    """Failing rows, each with the release or refused candidate that has them."""


def quality(live: Live) -> Quality:
    """Collect every expectation over the last releases."""
    releases = _last_releases(live, STRIP)
    found = live.rows(
        f"""
        select release_id, {", ".join(IDENTITY)}, severity, success, unexpected_count, element_count
        from expectation_results_history where release_id >= ?
        """,
        [releases[0]["release_id"]],
    )
    grouped: dict[tuple[str | None, ...], dict[str, dict[str, Any]]] = {}
    for row in found:
        grouped.setdefault(tuple(row[name] for name in IDENTITY), {})[row["release_id"]] = row
    expectations = [_expectation(key, rows, releases) for key, rows in grouped.items()]
    order = ("failed", "warned", "passed", "missing")
    expectations.sort(
        key=lambda each: (order.index(each.result), [each.identity[name] or "" for name in IDENTITY]),
    )
    report = read_report(live.folder)
    return Quality(
        expectations=expectations,
        counts={word: sum(each.result == word for each in expectations) for word in order},
        samples=report.failures if report else [],
        has_report=report is not None,
    )


def expectation_facts(
    live: Live, identity: Mapping[str, str | None], refused: Refused | None
) -> ExpectationFacts | None:
    """One expectation over many releases; None when no release since the history began knows it."""
    releases = _last_releases(live, LISTED)
    matches = " and ".join(f"{name} is not distinct from ${name}" for name in IDENTITY)
    rows = live.rows(
        f"""
        select release_id, released_at, severity, success, unexpected_count, element_count
        from expectation_results_history
        where release_id >= $first and {matches}
        order by release_id desc
        """,
        {**identity, "first": releases[0]["release_id"]},
    )
    if not rows:
        return None
    key = tuple(identity[name] for name in IDENTITY)
    found = _expectation(key, {row["release_id"]: row for row in rows}, releases)
    reports = [read_report(live.folder), refused.report if refused else None]
    return ExpectationFacts(
        expectation=found,
        results=[row | {"result": result_word(row["severity"], success=row["success"])} for row in rows],
        charted=[
            (moment(row["released_at"]), row["unexpected_count"])
            for row in reversed(rows)
            if row["unexpected_count"] is not None
        ],
        samples=[(report.release_id, sample) for report in reports if report for sample in _samples(report, key)],
    )


def _last_releases(live: Live, count: int) -> list[dict[str, Any]]:
    """The last releases, oldest first; the live one is always among them."""
    query = "select release_id, released_at from releases order by release_id desc limit ?"
    return list(reversed(live.rows(query, [count])))


def _expectation(
    key: tuple[str | None, ...], rows: Mapping[str, dict[str, Any]], releases: list[dict[str, Any]]
) -> Expectation:
    words = {release: result_word(row["severity"], success=row["success"]) for release, row in rows.items()}
    latest = rows[max(rows)]
    present = rows.get(releases[-1]["release_id"], {})
    return Expectation(
        identity=dict(zip(IDENTITY, key, strict=True)),
        severity=latest["severity"],
        result=words.get(releases[-1]["release_id"], "missing"),
        unexpected_count=present.get("unexpected_count"),
        element_count=present.get("element_count"),
        history=[words.get(release["release_id"], "missing") for release in releases],
    )


def _samples(report: Report, key: tuple[str | None, ...]) -> list[Outcome]:
    return [result for result in report.failures if tuple(getattr(result, name) for name in IDENTITY) == key]
