"""The validate stage: Great Expectations over staging and the candidate; a critical failure stops the release."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from opportunity_sync.data_root import DataRoot, open_data_root, warehouse_lock, write_atomically
from opportunity_sync.errors import ValidationFailedError
from opportunity_sync.expectations import Outcome, Suite
from opportunity_sync.published import failed_folder, is_superseded, live_or_none, set_aside
from opportunity_sync.quality import write_quality
from opportunity_sync.release import DATABASE, QUALITY, Release, read_release, write_release
from opportunity_sync.settings import Settings

SHOWN_KEYS = 3
"""Keys per failed expectation in the error message; `validation.json` has up to 20."""

log = logging.getLogger("opportunity_sync.validate")


@dataclass(frozen=True)
class Part:
    """Suites over the relations of one schema of one DuckDB file."""

    file: Path
    schema: str
    suites: Sequence[Suite]


def validate(settings: Settings, release_id: str, *, now: datetime | None = None) -> Release:
    """Validate a candidate: fill its table `expectation_results`, write `validation.json` and `quality.html` beside it.

    A candidate that failed earlier (`published/failed/<release_id>`) is taken back and validated again; one that is
    already published, or that holds older data than the live release, is returned as it is.

    Args:
        settings: settings of the data root.
        release_id: the candidate.
        now: the moment that freshness is measured at; the present time unless a history is made up.

    Returns:
        The candidate, with `validated` true.

    Raises:
        ValidationFailedError: a critical expectation failed; the candidate is moved to `published/failed/`.
        ReleaseError: there is no such candidate.
        DataRootError: the data root is of a newer version, or is in use for too long.
    """
    root = open_data_root(settings.data)
    with warehouse_lock(root):
        if (root.releases / release_id / "release.json").is_file():
            return read_release(root.releases / release_id)
        folder = root.candidates / release_id
        if not folder.exists() and (failed_folder(root) / release_id).exists():
            (failed_folder(root) / release_id).rename(folder)
        release = read_release(folder)
        live = live_or_none(root)
        if is_superseded(release, live):
            log.info("validate: %s is superseded by the live release", release_id)
            return release
        log.info("validate: %s started", release_id)
        outcomes = check(settings, plan(settings, root, release, live, now))
        _record(folder, outcomes)
        _write_report(folder, release, outcomes)
        release = msgspec.structs.replace(
            release,
            validated=not any(outcome.stops for outcome in outcomes),
            expectations_passed=sum(outcome.success for outcome in outcomes),
            expectations_failed=sum(not outcome.success for outcome in outcomes),
        )
        write_quality(settings, folder, release, outcomes, live, now or datetime.now(UTC))
        write_release(folder, release)
        for outcome in outcomes:
            if not outcome.success and not outcome.stops:
                log.warning("validate: warning: %s", "  ".join(describe(outcome)).rstrip())
        if not release.validated:
            raise _failure(release, outcomes, set_aside(root, release_id))
    log.info(
        "validate: %s: %d expectations passed, %d warnings",
        release_id,
        release.expectations_passed,
        release.expectations_failed,
    )
    return release


def plan(
    settings: Settings, root: DataRoot, release: Release, live: Release | None, now: datetime | None = None
) -> list[Part]:
    """What is expected of a candidate and of the warehouse it was built from.

    Staging is looked at only while the warehouse still holds exactly the batches that the candidate was built from.
    """
    from opportunity_sync.expectations import extracted, marts, staging
    from opportunity_sync.expectations import release as whole
    from opportunity_sync.tables import load_tables

    parts = []
    staging_rows = _staging_rows(root, release)
    if staging_rows:
        parts.append(Part(root.warehouse, "extracted", extracted.suites(load_tables(settings.tables_file))))
        parts.append(Part(root.warehouse, "staging", staging.suites()))
    else:
        log.warning("validate: the warehouse is not what %s was built from: staging not checked", release.release_id)
    expected = whole.Expected(
        staging_rows=staging_rows,
        live_rows=live.rows if live else {},
        minimum_rows_share=settings.minimum_rows_share,
        freshness_hours=settings.freshness_hours,
        unresolved_share=settings.unresolved_share,
        now=now or datetime.now(UTC),
    )
    candidate = root.candidates / release.release_id / DATABASE
    return [*parts, Part(candidate, "main", [*marts.suites(), *whole.suites(expected)])]


def check(settings: Settings, parts: Sequence[Part]) -> list[Outcome]:
    """Evaluate what was planned; the caller holds the warehouse lock."""
    from opportunity_sync.expectations.gx import run_suites

    return [
        outcome
        for part in parts
        for outcome in run_suites(part.file, part.schema, part.suites, memory_limit=settings.memory_limit)
    ]


def describe(outcome: Outcome) -> tuple[str, str, str, str]:
    """A failed expectation in four cells: suite and relation, expectation, what was found, keys of some rows."""
    words = {"min_value": "at least", "value": "exactly"}
    bounds = [f"{word} {outcome.kwargs[name]}" for name, word in words.items() if name in outcome.kwargs]
    if outcome.problem:
        found = f"could not be evaluated: {outcome.problem}"
    elif outcome.unexpected_count is not None:
        found = f"{outcome.unexpected_count} of {outcome.element_count} rows"
    elif outcome.element_count is not None:
        found = f"{outcome.element_count} rows, not {', '.join(bounds)}"
    else:
        found = "not met"
    keys = "; ".join(" ".join(str(value) for value in key.values()) for key in outcome.keys[:SHOWN_KEYS])
    column = f" ({outcome.column_name})" if outcome.column_name else ""
    return f"{outcome.suite}.{outcome.relation}", f"{outcome.expectation}{column}", found, keys


def _staging_rows(root: DataRoot, release: Release) -> dict[str, int]:
    """Rows that main tables must have; empty when the warehouse is not at the candidate's batches."""
    import duckdb

    if not root.warehouse.exists():
        return {}
    try:
        with duckdb.connect(str(root.warehouse), read_only=True) as connection:
            found = connection.execute(
                """
                select (select warehouse_id from meta.warehouse), (select coalesce(max(sequence), 0) from meta.batches)
                """
            ).fetchall()
            if found != [(release.warehouse_id, release.sequence)]:
                return {}
            ((opportunities, contacts, accounts),) = connection.execute(
                """
                select
                    (select count(*) from staging.opportunities),
                    (select count(*) from staging.contacts where not is_merged),
                    (select count(*) from staging.accounts where not is_merged)
                """
            ).fetchall()
    except duckdb.Error as error:  # the next transform finds that, too, and rebuilds the warehouse
        log.warning("validate: %s cannot be read (%s)", root.warehouse, type(error).__name__)
        return {}
    return {"opportunities": opportunities, "contacts": contacts, "accounts": accounts}


def _record(folder: Path, outcomes: Sequence[Outcome]) -> None:
    """Fill `expectation_results`, in one transaction, so that a repeated validation replaces it."""
    import duckdb

    rows = [
        [
            outcome.suite,
            outcome.relation,
            outcome.expectation,
            outcome.column_name,
            "critical" if outcome.problem else outcome.severity,
            outcome.success,
            outcome.unexpected_count,
            outcome.element_count,
        ]
        for outcome in outcomes
    ]
    (folder / DATABASE).chmod(0o644)  # a publication that was killed may have made it read-only already
    with duckdb.connect(str(folder / DATABASE)) as connection:
        connection.execute("begin")
        connection.execute("delete from expectation_results")
        connection.executemany(
            """
            insert into expectation_results (
                suite, relation, expectation, column_name, severity, success, unexpected_count, element_count
            ) values (?, ?, ?, ?, ?, ?, ?, ?)
            """,
            rows,
        )
        connection.execute("commit")
        connection.execute("checkpoint")


def _write_report(folder: Path, release: Release, outcomes: Sequence[Outcome]) -> None:
    report = {
        "release_id": release.release_id,
        "validated_at": datetime.now(UTC).isoformat(),
        "results": [asdict(outcome) for outcome in outcomes],
    }
    write_atomically(folder / "validation.json", json.dumps(report, indent=2, default=str) + "\n")


def _failure(release: Release, outcomes: Sequence[Outcome], folder: Path) -> ValidationFailedError:
    failed = [outcome for outcome in outcomes if outcome.stops]
    cells = [("relation", "expectation", "unexpected", "keys, for example"), *map(describe, failed)]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    listed = "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in cells)
    hint = (
        f"; if the collapse is right, `opportunity-sync publish {release.release_id} --accept-collapse`"
        if all(outcome.expectation == "expect_table_row_count_to_be_between" for outcome in failed)
        else ""
    )
    return ValidationFailedError(
        f"Release {release.release_id}: {len(failed)} of {len(outcomes)} expectations failed critically:\n{listed}",
        state=f"\nIt was not published, the live release is unchanged; the candidate is in {folder}",
        action=f"See {folder / QUALITY}, or for machines {folder / 'validation.json'}, for all results and keys{hint}",
    )
