"""Part `pages`: how long the pages in Airflow's UI take on a large release, also while releases replace one another."""

from __future__ import annotations

import shutil
from statistics import median

from benchmarks.organization import Size, write_include
from benchmarks.process import PROJECT, WORK, run_child
from benchmarks.results import Measure, judged
from benchmarks.scale import Scale, say

FOLDER = WORK / "viewing"
DATA = FOLDER / "data"
INCLUDE = FOLDER / "include"
LIMIT = 0.3
"""Seconds within which every page is to answer."""


def run_viewing(scale: Scale) -> list[Measure]:
    """Two releases, one an hour after the other; then every page in turn."""
    size = Size(scale.opportunities)
    shutil.rmtree(FOLDER, ignore_errors=True)
    write_include(INCLUDE, PROJECT / "include" / "sql")
    shutil.copytree(PROJECT / "include" / "pages", INCLUDE / "pages")
    for hour in ([], ["1"]):
        run_child("-m", "benchmarks.lakes", str(DATA), str(size.opportunities), *hour)
        release_id = _stage("transform")
        if not hour:
            candidate = DATA / "published" / "candidates" / release_id / "opportunities.duckdb"
            run_child("-m", "benchmarks.page_requests", "rename", str(candidate))
        _stage("validate", release_id)
        _stage("publish", release_id)
        say(f"release {release_id}")
    child = run_child("-m", "benchmarks.page_requests", "serve", str(DATA), str(INCLUDE), str(scale.page_rounds))
    lookup = median(child.output["lookup"])
    say(f"bare lookup by id: {lookup * 1000:.0f} ms; peak memory of the server {child.peak_mb:.0f} MB")
    measures = []
    for when, told in (("steady", "one release live"), ("swapped", "a release replaced every two seconds")):
        for name, seconds in child.output[when].items():
            say(f"{told}, {name}: median {median(seconds) * 1000:.0f} ms, worst {max(seconds) * 1000:.0f} ms")
        slowest = max(child.output[when], key=lambda name: median(child.output[when][name]))
        seconds = child.output[when][slowest]
        worst = max(max(each) for each in child.output[when].values())
        measure = Measure(
            name=f"slowest page on {size.opportunities:,} opportunities, {told} (median)",
            value=median(seconds),
            unit="s",
            peak_memory_mb=child.peak_mb,
            note=f"{slowest}; worst of all {sum(map(len, child.output[when].values()))} requests {worst:.3f} s",
        )
        measures.append(judged(measure, "<=", LIMIT))
        measures.append(
            Measure(
                name=f"slowest page, {told}, against one bare DuckDB lookup by id",
                value=median(seconds),
                unit="s",
                baseline=lookup,
                ratio=median(seconds) / lookup,
            )
        )
    shutil.rmtree(FOLDER)
    return measures


def _stage(stage: str, *arguments: str) -> str:
    child = run_child("-m", "benchmarks.stages", stage, str(DATA), str(INCLUDE), *arguments)
    return str(child.output.get("release_id", ""))
