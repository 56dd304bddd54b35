"""Part `history`: what an hourly run pays for the history, by size of the tables and by number of changes."""

from __future__ import annotations

import shutil

from benchmarks.process import WORK, Child, MeasurementError, run_child
from benchmarks.results import Measure
from benchmarks.scale import Scale, say

FOLDER = WORK / "history"
CHANGES = 1_000


def run_history(scale: Scale) -> list[Measure]:
    """Seconds to continue the history: tables of one size and of a quarter of it, few changes and ten times as many."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir(parents=True)
    small, large = scale.opportunities // 4, scale.opportunities
    few, few_small, many = (
        _continue(rows, changes) for rows, changes in ((large, CHANGES), (small, CHANGES), (large, 10 * CHANGES))
    )
    shutil.rmtree(FOLDER)
    changed = f"history of an hourly run with {CHANGES:,} changed opportunities and as many roles"
    size = Measure(
        name=f"{changed}, {large:,} opportunities against {small:,}",
        value=few.seconds,
        unit="s",
        baseline=few_small.seconds,
        ratio=few.seconds / few_small.seconds,
        peak_memory_mb=few.peak_mb,
        baseline_peak_memory_mb=few_small.peak_mb,
    )
    more = Measure(
        name=f"history of an hourly run, {10 * CHANGES:,} changed opportunities against {CHANGES:,}",
        value=many.seconds,
        unit="s",
        baseline=few.seconds,
        ratio=many.seconds / few.seconds,
        peak_memory_mb=many.peak_mb,
        baseline_peak_memory_mb=few.peak_mb,
    )
    return [size, more]


def _continue(rows: int, changes: int) -> Child:
    child = run_child("-m", "benchmarks.hour_of_history", str(FOLDER), str(rows), str(changes))
    if child.output["changed"] != 2 * changes:
        raise MeasurementError(f"{child.output['changed']} changes were noted, not {2 * changes}")
    say(f"{rows:,} opportunities, {changes:,} changed: {child.seconds:.3f} s, {child.peak_mb:.0f} MB")
    return child
