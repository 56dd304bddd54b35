"""What counts as bad data: suites of Great Expectations, one module per layer.

- `extracted.py`: does Dynamics still have every selected column?
- `staging.py`: is what Dynamics sent complete and plausible?
- `marts.py`: does the candidate keep the analysts' contract?
- `release.py`: is the candidate as a whole fresh, and not suddenly much smaller than the live release?

Severity: *critical* is whatever would make the published contract a lie; it stops the release. *warning* is a flaw of
the source data that the contract allows for: it is published, and visible in table `expectation_results`.

A suite is a list of GX classes. Rules over several relations or columns are `rows.no_rows(...)`: a query for the keys
of rows that break the rule. `gx.py` runs suites on a DuckDB file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Suite:
    """The expectations of one relation."""

    name: str
    """Layer: `extracted`, `staging` or `marts`; also the schema of a warehouse relation."""
    relation: str
    key: tuple[str, ...]
    """Columns that identify a row; samples of unexpected rows hold these and nothing else."""
    expectations: tuple[Any, ...]
    """GX expectation objects."""


@dataclass(frozen=True)
class Outcome:
    """What became of one expectation: a row of `expectation_results`, and more for `validation.json`."""

    suite: str
    relation: str
    expectation: str
    """GX type, for example `expect_column_values_to_be_unique`, or the name of a rule of `rows.no_rows`."""
    column_name: str | None
    severity: str
    success: bool
    unexpected_count: int | None
    element_count: int | None
    kwargs: dict[str, Any]
    """How the expectation is configured; holds no data."""
    keys: tuple[dict[str, Any], ...]
    """Keys of some unexpected rows."""
    problem: str | None
    """Why the expectation could not be evaluated, which counts as a critical failure."""

    @property
    def stops(self) -> bool:
        """True when this outcome stops the release."""
        return not self.success and (self.severity == "critical" or self.problem is not None)


def result_word(severity: str, *, success: bool) -> str:
    """One word for a result, the same on every page: `passed`, `warned` or `failed`."""
    if success:
        return "passed"
    return "failed" if severity == "critical" else "warned"
