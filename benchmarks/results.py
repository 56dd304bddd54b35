"""The measures: their table on screen and `results.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Measure:
    """One line of the result."""

    name: str
    value: float
    unit: str
    baseline: float | None = None
    """What `value` is compared with, in the same unit and from the same run."""
    ratio: float | None = None
    """The compared quantity that `target` speaks of."""
    target: str | None = None
    """For example `>= 5` or `< 500`; applies to `ratio`, or to `value` where there is no ratio."""
    met: bool | None = None
    peak_memory_mb: float | None = None
    baseline_peak_memory_mb: float | None = None
    note: str = ""


def judged(measure: Measure, comparison: str, limit: float) -> Measure:
    """The measure with its target and whether it is met."""
    seen = measure.value if measure.ratio is None else measure.ratio
    met = {">=": seen >= limit, "<=": seen <= limit, "<": seen < limit}[comparison]
    return Measure(**asdict(measure) | {"target": f"{comparison} {limit:g}", "met": met})


def show(measures: list[Measure]) -> None:
    """Print the measures as a table."""
    from rich.console import Console
    from rich.table import Table

    table = Table("measure", title="Benchmarks", title_justify="left")
    for heading in ("value", "baseline", "ratio", "target", "met", "peak MB"):
        table.add_column(heading, justify="right")
    for measure in measures:
        table.add_row(
            measure.name,
            f"{_number(measure.value)} {measure.unit}",
            "" if measure.baseline is None else f"{_number(measure.baseline)} {measure.unit}",
            "" if measure.ratio is None else f"{measure.ratio:.2f}",
            measure.target or "",
            {True: "yes", False: "NO", None: ""}[measure.met],
            "" if measure.peak_memory_mb is None else f"{measure.peak_memory_mb:.0f}",
        )
    console = Console()
    if not console.is_terminal:
        console.width = 170
    console.print(table)


def merge(path: Path, measures: list[Measure]) -> list[dict[str, object]]:
    """Write the measures to `path`; measures of parts that were not run this time stay."""
    new = {measure.name: _rounded(measure) for measure in measures}
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    kept = {entry["name"]: entry for entry in old}
    merged = list((kept | new).values())
    path.write_text(json.dumps(merged, indent=2) + "\n", encoding="utf-8")
    return merged


def _rounded(measure: Measure) -> dict[str, object]:
    return {
        name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in asdict(measure).items()
    }


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
