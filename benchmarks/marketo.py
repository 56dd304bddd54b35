"""Part `marketo`: loading a release into the stand-in within its limits, and then 500 changes."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import Any

from benchmarks.process import PROJECT, WORK, Child, MeasurementError, environment, run_child
from benchmarks.results import Measure, judged
from benchmarks.scale import Scale, say

FOLDER = WORK / "marketo"
CALLS, AT_ONCE, WINDOW_SECONDS = 50, 5, 20
"""What the sync may do by default."""
LATENCY_MS = 300
"""Of each call at the stand-in."""
PER_CALL = 300
CHANGED = 500
ALLOWANCE_USED = 0.9
GROWTH = 1.25
BEFORE_A_LOAD = 4
"""Three descriptions and the usage of the day."""


@dataclass(frozen=True)
class Load:
    """One load, as this side and the stand-in saw it."""

    child: Child
    counters: dict[str, Any]

    @property
    def share_of_allowance(self) -> float:
        """Calls against those that were allowed between the first and the last, the first window being free at once."""
        first, last = (datetime.fromisoformat(self.counters[name]) for name in ("first_at", "last_at"))
        return float(self.counters["calls"] / (CALLS + (last - first).total_seconds() * CALLS / WINDOW_SECONDS))


def run_marketo(scale: Scale) -> list[Measure]:
    """An initial load, the same with a fifth of the records, and 500 changes."""
    small = scale.deals // 5
    shutil.rmtree(FOLDER, ignore_errors=True)
    with _stand_in(FOLDER / "small", small // 2) as stand_in:
        before = _load(stand_in, FOLDER / "small" / "data", small, 0)
    with _stand_in(FOLDER / "large", scale.deals // 2) as stand_in:
        first = _load(stand_in, FOLDER / "large" / "data", scale.deals, 0)
        changes = _load(stand_in, FOLDER / "large" / "data", scale.deals, CHANGED)
    shutil.rmtree(FOLDER, ignore_errors=True)
    expected = {"opportunities created": scale.deals, "opportunities/roles created": 2 * scale.deals}
    found = {name: first.counters["records"].get(name) for name in expected}
    if found != expected:
        raise MeasurementError(f"Marketo was to hold {expected}, and was given {found}")
    needed = BEFORE_A_LOAD + ceil(CHANGED / PER_CALL)
    size = f"{scale.deals:,} opportunities and {2 * scale.deals:,} roles"
    calls = first.counters["calls"]
    return [
        judged(
            Measure(
                f"load {size} into Marketo: share of the allowed calls",
                first.child.seconds,
                "s",
                ratio=first.share_of_allowance,
                peak_memory_mb=first.child.peak_mb,
                note=f"{calls} calls, {LATENCY_MS} ms each",
            ),
            ">=",
            ALLOWANCE_USED,
        ),
        judged(
            Measure(f"most calls in any {WINDOW_SECONDS} s", first.counters["highest_in_window"], "calls"), "<=", CALLS
        ),
        judged(
            Measure(
                f"memory of loading {size}",
                first.child.peak_mb,
                "MB",
                baseline=before.child.peak_mb,
                ratio=first.child.peak_mb / before.child.peak_mb,
                note=f"against {small:,} opportunities",
            ),
            "<=",
            GROWTH,
        ),
        judged(
            Measure(
                f"load {CHANGED} changes on that base",
                changes.counters["calls"],
                "calls",
                baseline=needed,
                ratio=changes.counters["calls"] / needed,
            ),
            "<=",
            1,
        ),
    ]


def _load(stand_in: tuple[str, str], data: Path, opportunities: int, changed: int) -> Load:
    url, ca_bundle = stand_in
    run_child("-m", "benchmarks.loading", "make", str(data), str(opportunities), str(changed))
    _control(url, ca_bundle, "DELETE")
    child = run_child("-m", "benchmarks.loading", "load", str(data), url, ca_bundle, str(CALLS), str(AT_ONCE))
    load = Load(child, _control(url, ca_bundle, "GET"))
    say(f"{opportunities} opportunities, {changed} changed: {load.counters['calls']} calls in {child.seconds:.1f} s")
    return load


def _control(url: str, ca_bundle: str, method: str) -> dict[str, Any]:
    request = urllib.request.Request(f"{url}/_control/counters", method=method)  # noqa: S310  (https, loopback)
    context = ssl.create_default_context(cafile=ca_bundle)
    with urllib.request.urlopen(request, context=context) as answer:  # noqa: S310
        return dict(json.load(answer) or {})


@contextmanager
def _stand_in(folder: Path, leads: int) -> Iterator[tuple[str, str]]:
    """The stand-in in a process of its own, with a lead for every contact."""
    folder.mkdir(parents=True)
    file = folder / "leads.json"
    file.write_text(json.dumps([{"email": f"c{number}@example.com"} for number in range(leads)]), encoding="utf-8")
    command = [sys.executable, "-m", "emulator.marketo", "--port", "0", "--leads", str(file)]
    command += ["--latency-ms", str(LATENCY_MS)]
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
