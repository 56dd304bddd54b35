"""Part `build`: raw batches to a published release, as a whole and after an hour with 1,000 changed rows."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from benchmarks.lakes import CHANGED
from benchmarks.organization import Size, write_include
from benchmarks.process import PROJECT, WORK, Child, MeasurementError, run_child
from benchmarks.results import Measure, judged
from benchmarks.scale import Scale, say

FOLDER = WORK / "build"
DATA = FOLDER / "data"
INCLUDE = FOLDER / "include"
FULL_BUILD = 6.0
HOURLY = 0.2


@dataclass(frozen=True)
class Build:
    """The stages from raw batches to a release, and its export."""

    transform: Child
    validate: Child
    publish: Child
    export: Child

    @property
    def seconds(self) -> float:
        """Transform and publish; validation and export are reported by themselves."""
        return self.transform.seconds + self.publish.seconds

    @property
    def peak_mb(self) -> float:
        """Memory of the larger of the two."""
        return max(self.transform.peak_mb, self.publish.peak_mb)

    @property
    def shares(self) -> str:
        """What each stage took."""
        transform, publish = self.transform, self.publish
        cpu = transform.cpu_seconds + publish.cpu_seconds
        return f"transform {transform.seconds:.1f} s, publish {publish.seconds:.1f} s, processor time {cpu:.1f} s"


def run_build(scale: Scale) -> list[Measure]:
    """Full builds between copies of the same files, then hourly runs."""
    size = Size(scale.opportunities)
    rows = ", ".join(f"{count:,} {table}" for table, count in size.rows.items())
    say(f"writing raw batches: {rows}")
    shutil.rmtree(FOLDER, ignore_errors=True)
    write_include(INCLUDE, PROJECT / "include" / "sql")
    run_child("-m", "benchmarks.lakes", str(DATA), str(size.opportunities))
    copies, builds = [], []
    for number in range(1, scale.build_rounds + 1):
        copies.append(_stage(f"round {number}, copy", "copy"))
        for folder in ("warehouse", "published"):
            shutil.rmtree(DATA / folder, ignore_errors=True)
        builds.append(_build(f"round {number}, full build", "full"))
    hours = []
    for hour in range(1, scale.hours + 1):
        run_child("-m", "benchmarks.lakes", str(DATA), str(size.opportunities), str(hour))
        hours.append(_build(f"hour {hour}", "incremental"))
    shutil.rmtree(FOLDER)
    return _measures(size, copies, builds, hours)


def _measures(size: Size, copies: list[Child], builds: list[Build], hours: list[Build]) -> list[Measure]:
    """Of every kind of run the fastest counts: the one that others on the machine disturbed least."""
    copied = min(child.seconds for child in copies)
    built = min(builds, key=lambda build: build.seconds)
    hourly = min(hours, key=lambda build: build.seconds)
    n = f"{size.opportunities:,} opportunities"
    full = Measure(
        name=f"transform and publish {n}, against DuckDB copying the same files",
        value=built.seconds,
        unit="s",
        baseline=copied,
        ratio=built.seconds / copied,
        peak_memory_mb=max(build.peak_mb for build in builds),
        baseline_peak_memory_mb=max(child.peak_mb for child in copies),
        note=built.shares,
    )
    changed = Measure(
        name=f"hourly run with {sum(CHANGED.values()):,} changed rows on {n}, against the full build",
        value=hourly.seconds,
        unit="s",
        baseline=built.seconds,
        ratio=hourly.seconds / built.seconds,
        peak_memory_mb=max(build.peak_mb for build in hours),
        baseline_peak_memory_mb=max(build.peak_mb for build in builds),
        note=hourly.shares,
    )
    found = built.validate.output
    validated = Measure(
        name=f"validate {n}",
        value=min(build.validate.seconds for build in builds),
        unit="s",
        peak_memory_mb=max(build.validate.peak_mb for build in builds),
        note=f"{found['passed']} expectations passed, {found['failed']} warned",
    )
    exported = Measure(
        name=f"export {n} to Parquet, after the release is live",
        value=min(build.export.seconds for build in [*builds, *hours]),
        unit="s",
        peak_memory_mb=max(build.export.peak_mb for build in [*builds, *hours]),
    )
    return [judged(full, "<=", FULL_BUILD), judged(changed, "<", HOURLY), validated, exported]


def _build(name: str, expected: str) -> Build:
    transform = _stage(f"{name}, transform", "transform")
    if transform.output["built"] != expected:
        raise MeasurementError(f"{name} was built {transform.output['built']}, not {expected}")
    release_id = transform.output["release_id"]
    validate = _stage(f"{name}, validate", "validate", release_id)
    publish = _stage(f"{name}, publish", "publish", release_id)
    return Build(transform, validate, publish, _stage(f"{name}, export", "export", release_id))


def _stage(name: str, stage: str, *arguments: str) -> Child:
    child = run_child("-m", "benchmarks.stages", stage, str(DATA), str(INCLUDE), *arguments)
    say(f"{name}: {child.seconds:.1f} s, {child.cpu_seconds:.1f} s of processor, {child.peak_mb:.0f} MB")
    return child
