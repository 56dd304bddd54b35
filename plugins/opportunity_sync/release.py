"""Runs, candidates and releases: the small records that stages hand to one another.

A candidate is a release being built (`published/candidates/<release_id>/`); publishing moves the folder to
`published/releases/<release_id>/`. `release.json` in that folder describes it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from opportunity_sync.data_root import DataRoot, write_atomically
from opportunity_sync.errors import ReleaseError

DATABASE = "opportunities.duckdb"
QUALITY = "quality.html"
"""The quality report: of each release in its folder, of the live one beside the live file too."""
PUBLISHED_TABLES = (
    "opportunities",
    "opportunity_contact_roles",
    "contacts",
    "accounts",
    "release",
    "release_tables",
    "reconciliations",
    "expectation_results",
    "unresolved_references",
    "release_changes",
    "opportunity_connections",
    "merged_accounts",
    "merged_contacts",
    "row_sources",
)


PUBLISHED_VIEWS = (
    "opportunities_history",
    "opportunity_contact_roles_history",
    "opportunity_explanations",
    "releases",
    "expectation_results_history",
)
PUBLISHED_MACROS = ("opportunities_as_of", "opportunity_contact_roles_as_of")

MAIN_TABLES = {
    "opportunities": ("opportunity_id",),
    "opportunity_contact_roles": ("opportunity_id", "contact_id", "role"),
    "contacts": ("contact_id",),
    "accounts": ("account_id",),
}
"""Published tables with business rows, and their keys."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the pipeline: who asked, and the clock that rules such as 3.8 use."""

    run_id: str
    started_at: datetime
    """UTC; fixed once per run, so that a retry gives the same rows."""


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """What `release.json` says about a candidate or a release."""

    release_id: str
    """Sortable by time of building, for example `20261122T140000123456Z`."""
    run_id: str
    started_at: datetime
    """The run's clock (UTC)."""
    released_at: datetime
    """When the file was built (UTC); as in table `release`."""
    pipeline_version: str
    built: Literal["full", "incremental"]
    """Whether all rows were derived anew, or only those that changes could have touched."""
    sequence: int
    """Number of raw batches the warehouse had applied: a release never replaces one with a higher number."""
    warehouse_id: str
    """Identity of the warehouse that counted `sequence`."""
    fingerprint: str = ""
    """What besides row data decided the content: models, settings, week, columns, labels (a SHA-256)."""
    history_of: str = ""
    """The release that this one's history continues; empty when the history begins here."""
    rows: dict[str, int]
    """Rows per published table (without `expectation_results`)."""
    validated: bool = False
    """True once no critical expectation failed; only then may it be published."""
    expectations_passed: int = 0
    expectations_failed: int = 0


def new_release_id(now: datetime | None = None) -> str:
    """A release id that sorts by time."""
    return f"{now or datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"


def read_release(folder: Path) -> Release:
    """Read `release.json` of a candidate or release folder.

    Raises:
        ReleaseError: there is none, or it is unreadable.
    """
    path = folder / "release.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Release)
    except (OSError, msgspec.MsgspecError) as error:
        raise ReleaseError(
            f"{path} is missing or unreadable ({error})",
            state="The live release is unchanged",
            action="Run `opportunity-sync releases` to see which releases are complete",
        ) from error


def write_release(folder: Path, release: Release) -> None:
    """Write `release.json` atomically."""
    write_atomically(
        folder / "release.json", msgspec.json.format(msgspec.json.encode(release), indent=2).decode() + "\n"
    )


def live_release(root: DataRoot) -> Release | None:
    """The release that analysts see now: what the live file itself says it is; None when there is none.

    Raises:
        ReleaseError: the live file is no release of this product, or its `release.json` is gone.
    """
    import duckdb

    if not root.live_file.exists():
        return None
    try:
        with duckdb.connect(str(root.live_file), read_only=True) as connection:
            (found,) = connection.execute("select release_id from release").fetchall()
    except duckdb.Error as error:
        raise ReleaseError(
            f"{root.live_file} cannot be read as a release ({type(error).__name__})",
            state="Nothing was published",
            action="Run `opportunity-sync rollback` to put a kept release in its place",
        ) from error
    return read_release(root.releases / found[0])
