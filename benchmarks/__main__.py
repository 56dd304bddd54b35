"""`python -m benchmarks [--only NAME] [--scale small|full]`: measure, print the table, write `results.json`.

A full run updates `benchmarks/results.json`; a small one writes below `benchmarks/.work/`, because its figures say
nothing about the targets. The exit code is 1 when a target is missed at full scale.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.backfill import run_backfill
from benchmarks.building import run_build
from benchmarks.extraction import run_extract, run_memory
from benchmarks.history import run_history
from benchmarks.marketo import run_marketo
from benchmarks.process import WORK
from benchmarks.results import merge, show
from benchmarks.scale import SCALES, say
from benchmarks.viewing import run_viewing

PARTS = {
    "extract": run_extract,
    "memory": run_memory,
    "build": run_build,
    "backfill": run_backfill,
    "history": run_history,
    "marketo": run_marketo,
    "pages": run_viewing,
}


def main() -> int:
    """Run the chosen parts."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=PARTS, help="measure one part; figures of the others stay as they are")
    parser.add_argument("--scale", choices=SCALES, default="full", help="small: a quick try with meaningless figures")
    arguments = parser.parse_args()
    scale = SCALES[arguments.scale]
    measures = []
    for name in [arguments.only] if arguments.only else list(PARTS):
        say(f"part {name}, scale {scale.name}")
        measures += PARTS[name](scale)
    is_full = scale.name == "full"
    path = Path(__file__).with_name("results.json") if is_full else WORK / f"results-{scale.name}.json"
    merge(path, measures)
    show(measures)
    missed = [measure.name for measure in measures if measure.met is False]
    if is_full and missed:
        print(f"Missed: {'; '.join(missed)}")
    return 1 if is_full and missed else 0


if __name__ == "__main__":
    sys.exit(main())
