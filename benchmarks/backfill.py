"""Part `backfill`: windows read one after another and eight at once, from a service that takes a second per page."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.process import PROJECT, WORK, MeasurementError, environment, run_child
from benchmarks.results import Measure, judged
from benchmarks.scale import Scale, say

FOLDER = WORK / "backfill"
AT_ONCE = 8
SOONER = 6.0
ROWS_PER_PAGE = 200


def run_backfill(scale: Scale) -> list[Measure]:
    """Seconds of one backfill, with one and with eight windows in flight."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    rows_per_window = scale.window_pages * ROWS_PER_PAGE
    _write_seed(FOLDER / "seed", scale.windows, rows_per_window)
    seconds = {}
    with _stand_in(scale) as (url, ca_bundle):
        for at_once in (AT_ONCE, 1):
            arguments = (url, ca_bundle, str(FOLDER / f"data-{at_once}"), str(scale.windows), str(at_once))
            child = run_child("-m", "benchmarks.windows", *arguments)
            found = child.output["rows"]
            if found != [rows_per_window] * scale.windows:
                raise MeasurementError(f"Windows have {found} rows, each should have {rows_per_window}")
            say(f"windows in flight: {at_once}, {child.seconds:.1f} s")
            seconds[at_once] = child.seconds
    shutil.rmtree(FOLDER, ignore_errors=True)
    return [_measure(scale, seconds[AT_ONCE], seconds[1])]


def _measure(scale: Scale, parallel: float, serial: float) -> Measure:
    measure = Measure(
        name=f"backfill of {scale.windows} windows, {AT_ONCE} in flight against one",
        value=parallel,
        unit="s",
        baseline=serial,
        ratio=serial / parallel,
        note=f"{scale.window_pages} pages of {ROWS_PER_PAGE} rows per window, {scale.page_seconds:g} s per page",
    )
    return judged(measure, ">=", SOONER)


@contextmanager
def _stand_in(scale: Scale) -> Iterator[tuple[str, str]]:
    """The stand-in in a process of its own: every page late, metadata at once, no hint to read fewer at once."""
    faults = FOLDER / "faults.json"
    faults.write_text(json.dumps([{"action": "slow", "table": "opportunity", "seconds": scale.page_seconds}]))
    options = ["--state", str(FOLDER / "state"), "--faults", str(faults), "--dop-hint", "0"]
    command = [sys.executable, "-m", "emulator", "--data", str(FOLDER / "seed"), "--port", "0", *options]
    command += ["--page-size", str(ROWS_PER_PAGE)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT, env=environment()) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("ready "):
                raise MeasurementError("The stand-in did not start; its message is above")
            _, url, ca_bundle = line.split(maxsplit=2)
            yield url, ca_bundle.strip().removeprefix("ca=")
        finally:
            process.terminate()


def _write_seed(folder: Path, windows: int, rows_per_window: int) -> None:
    """Opportunities created evenly over each window's hour; the other tables are empty."""
    folder.mkdir(parents=True)
    step = timedelta(hours=1) / rows_per_window
    rows = []
    for number in range(windows * rows_per_window):
        created = f"{datetime(2026, 1, 1, tzinfo=UTC) + number * step:%Y-%m-%dT%H:%M:%SZ}"
        rows.append(
            {
                "opportunityid": f"00000000-0000-4000-8000-{number:012x}",
                "name": f"Deal {number}",
                "statecode": 0,
                "statuscode": 1,
                "estimatedvalue": 1000.0 + number,
                "createdon": created,
                "modifiedon": created,
                "versionnumber": number + 1,
            }
        )
    (folder / "opportunities.json").write_text(json.dumps(rows), encoding="utf-8")
    for name in ("accounts", "contacts", "connections", "connectionroles"):
        (folder / f"{name}.json").write_text("[]", encoding="utf-8")
