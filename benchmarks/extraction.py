"""Parts `extract` and `memory`: one table over HTTPS into Parquet, against peers and against only downloading it."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks import peers
from benchmarks.process import WORK, Child, MeasurementError, run_child
from benchmarks.results import Measure, judged
from benchmarks.scale import Scale, say
from benchmarks.server import serving

PAGES = WORK / "pages"
TLS = WORK / "tls"
TARGETS = {"sdk": 5.0, "dlt": 12.0}
SLOWDOWN = 2.5
MEMORY_MB = 500.0
GROWTH = 1.25


def run_extract(scale: Scale, compared: Iterable[str] = tuple(peers.PEERS)) -> list[Measure]:
    """Rows per second of every competitor, in interleaved rounds."""
    rows = scale.extract_rows
    _render(rows)
    runs: dict[str, list[Child]] = {}
    with serving(PAGES, TLS, rows) as server:
        for number in range(1, scale.extract_rounds + 1):
            hashes = {}
            for name in ("download", "ours", *compared):
                child = {"download": peers.download, "ours": peers.ours, **peers.PEERS}[name](server)
                runs.setdefault(name, []).append(child)
                speed = f"{rows / child.seconds:,.0f} rows/s, {child.cpu_seconds:.1f} s of processor"
                say(f"round {number}, {name}: {child.seconds:.1f} s, {speed}, {child.peak_mb:.0f} MB")
                if name != "download":
                    hashes[name] = _fingerprint(child, rows)
            if len(set(hashes.values())) != 1:
                raise MeasurementError(f"The competitors did not write the same rows: {hashes}")
            say(f"round {number}: {', '.join(hashes)} wrote the same rows")
    peers.clear_output()
    ours, thousands = runs["ours"], f"{rows // 1000},000"
    measures = []
    for name in compared:
        measure = Measure(
            name=f"extract {thousands} opportunities, against {peers.NAMES[name]}",
            value=rows / _seconds(ours),
            unit="rows/s",
            baseline=rows / _seconds(runs[name]),
            ratio=_seconds(runs[name]) / _seconds(ours),
            peak_memory_mb=_peak(ours),
            baseline_peak_memory_mb=_peak(runs[name]),
            note=f"processor time {_cpu(ours):.1f} s against {_cpu(runs[name]):.1f} s",
        )
        measures.append(judged(measure, ">=", TARGETS[name]))
    measure = Measure(
        name=f"extract {thousands} opportunities, against only downloading them",
        value=_seconds(ours),
        unit="s",
        baseline=_seconds(runs["download"]),
        ratio=_seconds(ours) / _seconds(runs["download"]),
        peak_memory_mb=_peak(ours),
        baseline_peak_memory_mb=_peak(runs["download"]),
        note=f"processor time {_cpu(ours):.1f} s against {_cpu(runs['download']):.1f} s",
    )
    return [*measures, judged(measure, "<=", SLOWDOWN)]


def run_memory(scale: Scale) -> list[Measure]:
    """Peak memory of our extraction of a small and of a large table."""
    _render(scale.extract_rows)
    peaks, seconds = [], []
    for rows in (scale.extract_rows, scale.memory_rows):
        with serving(PAGES, TLS, rows) as server:
            child = peers.ours(server)
        if child.output["rows"] != rows:
            raise MeasurementError(f"{child.output['rows']} of {rows} rows were extracted")
        _fingerprint(child, rows, distinct_keys=True)
        say(f"{rows:,} rows: {child.seconds:.1f} s, {rows / child.seconds:,.0f} rows/s, {child.peak_mb:.0f} MB")
        peaks.append(child.peak_mb)
        seconds.append(child.seconds)
    peers.clear_output()
    large = f"{scale.memory_rows:,} opportunities"
    note = f"{scale.memory_rows / seconds[1]:,.0f} rows/s"
    measure = Measure(f"memory of extracting {large}", value=peaks[1], unit="MB", peak_memory_mb=peaks[1], note=note)
    growth = Measure(
        f"growth of memory from {scale.extract_rows:,} to {large}",
        value=peaks[1],
        unit="MB",
        baseline=peaks[0],
        ratio=peaks[1] / peaks[0],
        peak_memory_mb=peaks[1],
        baseline_peak_memory_mb=peaks[0],
    )
    return [judged(measure, "<", MEMORY_MB), judged(growth, "<=", GROWTH)]


def _render(rows: int) -> None:
    say(f"rendering {rows:,} opportunities as pages (once)")
    run_child("-m", "benchmarks.pages", str(PAGES), str(rows))


def _fingerprint(child: Child, rows: int, *, distinct_keys: bool = False) -> str:
    """Hash of the rows that a competitor wrote, after checking that none is missing or double."""
    found = run_child(
        "-m", "benchmarks.fingerprint", child.output["parquet"], *(["keys"] if distinct_keys else [])
    ).output
    if found["rows"] != rows:
        raise MeasurementError(f"{found['rows']} rows or keys instead of {rows} in {child.output['parquet']}")
    return str(found["hash"])


def _seconds(children: list[Child]) -> float:
    """The fastest run: the one that others on the machine disturbed least."""
    return min(child.seconds for child in children)


def _cpu(children: list[Child]) -> float:
    return min(child.cpu_seconds for child in children)


def _peak(children: list[Child]) -> float:
    return max(child.peak_mb for child in children)
