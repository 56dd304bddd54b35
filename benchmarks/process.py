"""Run one measured thing in a process of its own, and report its time and its peak memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
WORK = Path(__file__).resolve().parent / ".work"
"""Everything the benchmarks generate; deleting it costs only time."""


class MeasurementError(RuntimeError):
    """A measured process failed."""


@dataclass(frozen=True)
class Child:
    """What one measured process did."""

    seconds: float
    """Wall time of the measured work, without interpreter start and imports."""
    cpu_seconds: float
    """Processor time of the whole process, all threads and its own children."""
    peak_mb: float
    """Largest resident memory of the process, in MB (10^6 bytes)."""
    output: dict[str, Any]
    """The JSON object that the process printed last."""


def environment(**extra: str) -> dict[str, str]:
    """Environment of a child: this project importable, no user settings of the sync, no telemetry."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPPORTUNITY_SYNC_")}
    return kept | {"PYTHONPATH": f"{PROJECT / 'plugins'}{os.pathsep}{PROJECT}", "PYTHONUNBUFFERED": "1"} | extra


def run_child(*arguments: str, python: str = sys.executable, env: dict[str, str] | None = None) -> Child:
    """Run `python ARGUMENTS...`; it prints a JSON object with `seconds` as its last line.

    The caller must be small: Linux counts the memory of the process that forked it into a child's peak.

    Raises:
        MeasurementError: the process failed; the message holds the end of what it wrote to stderr.
    """
    with tempfile.TemporaryFile() as stderr:
        process = subprocess.Popen(
            [python, *arguments], stdout=subprocess.PIPE, stderr=stderr, cwd=PROJECT, env=env or environment()
        )
        assert process.stdout is not None
        with process.stdout:
            printed = process.stdout.read()
        # wait4 gives the resources of exactly this child; getrusage(RUSAGE_CHILDREN) would give the largest so far.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            stderr.seek(0)
            tail = stderr.read().decode(errors="replace")[-4000:]
            raise MeasurementError(f"{' '.join(arguments)} ended with {process.returncode}:\n{tail}")
    output = json.loads(printed.splitlines()[-1])
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, KiB on Linux
    return Child(
        seconds=output["seconds"],
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_mb=usage.ru_maxrss * unit / 1e6,
        output=output,
    )
