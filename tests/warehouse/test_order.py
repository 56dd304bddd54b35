"""Properties of the transform: only the set of raw batches decides what a release contains (rules section 5)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opportunity_sync.data_root import DataRoot
from opportunity_sync.lake import Lake
from opportunity_sync.release import Run
from opportunity_sync.settings import Settings
from opportunity_sync.warehouse import transform
from tests.lakes import START, write_batch
from tests.warehouse.releases import content, make_live

RUN = Run(run_id="test", started_at=datetime(2026, 6, 15, 12, tzinfo=UTC))


def one_of(letter: str, count: int) -> st.SearchStrategy[str]:
    return st.sampled_from([f"{letter}{number}" for number in range(1, count + 1)])


maybe_type = st.sampled_from(["account", "contact"])
hours = st.integers(0, 8).map(lambda hour: START + timedelta(hours=hour))
days = st.sampled_from([None, datetime(2026, 6, 14, tzinfo=UTC), datetime(2026, 6, 15, tzinfo=UTC)])


@st.composite
def customer(draw: st.DrawFn, column: str) -> dict[str, Any]:
    kind = draw(maybe_type)
    return {
        column: draw(st.none() | one_of("c" if kind == "contact" else "a", 4)),
        f"{column}_type": kind,
    }


@st.composite
def row(draw: st.DrawFn, table: str) -> dict[str, Any]:
    values: dict[str, Any] = {"versionnumber": draw(st.integers(1, 6)), "_extracted_at": draw(hours)}
    if table == "opportunity":
        values |= {"opportunityid": draw(one_of("o", 4)), "name": draw(st.sampled_from("xyz"))}
        values |= draw(customer("customerid"))
    elif table == "contact":
        merged = draw(st.booleans())
        values |= {
            "contactid": draw(one_of("c", 4)),
            "merged": merged,
            "masterid": draw(one_of("c", 5)) if merged else None,
        }
        values |= draw(customer("parentcustomerid"))
    elif table == "account":
        merged = draw(st.booleans())
        values |= {
            "accountid": draw(one_of("a", 4)),
            "merged": merged,
            "masterid": draw(one_of("a", 5)) if merged else None,
        }
        values |= {"name": draw(st.sampled_from("xyz"))}
    elif table == "connection":
        ends = [("opportunity", draw(one_of("o", 5))), ("contact", draw(one_of("c", 5)))]
        if draw(st.booleans()):
            ends.reverse()
        values |= {"connectionid": draw(one_of("k", 5)), "statecode": draw(st.sampled_from([None, 0, 0, 1]))}
        values |= {"createdon": draw(hours), "effectivestart": draw(days), "effectiveend": draw(days)}
        for number, (kind, end) in enumerate(ends, 1):
            values |= {f"record{number}id": end, f"record{number}id_type": kind}
            values |= {f"record{number}roleid": draw(st.none() | one_of("r", 3))}
    else:
        values |= {"connectionroleid": draw(one_of("r", 2)), "name": draw(st.sampled_from(["Champion", "Buyer"]))}
        values |= {"category": draw(st.sampled_from([1000, 1000, 1001]))}
    return values


MODES = ("changes", "changes", "changes", "window", "full")
TABLES = ("opportunity", "contact", "account", "connection", "connectionrole")


@st.composite
def batch(draw: st.DrawFn, tables: Sequence[str] = TABLES, modes: Sequence[str] = MODES) -> dict[str, Any]:
    table = draw(st.sampled_from(tables))
    mode = draw(st.sampled_from(modes))
    letter = {"connectionrole": "r", "connection": "k"}.get(table, table[0])
    at = draw(hours)
    rows = draw(st.lists(row(table), max_size=4))
    if mode == "full":
        rows = [values | {"_extracted_at": max(values["_extracted_at"], at)} for values in rows]
    deletes = draw(st.lists(one_of(letter, 4), max_size=2, unique=True)) if mode == "changes" else []
    return {"table": table, "rows": rows, "mode": mode, "deletes": deletes, "at": at}


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(batches=st.lists(batch(), min_size=2, max_size=7), data=st.data())
def test_any_order_and_grouping_of_batches_gives_the_content_of_one_whole_build(
    batches: list[dict[str, Any]], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole = DataRoot(Path(folder) / "whole")
        lake = Lake(whole.raw)
        folders = []
        for described in batches:
            manifest = write_batch(lake, **described)
            folders.append(Path(manifest.table) / manifest.batch)
        release = transform(Settings(data=whole.path), RUN)
        expected = content(whole, release)

        arriving = DataRoot(Path(folder) / "arriving")
        order = data.draw(st.permutations(folders), label="order of arrival")
        builds = set()
        for position, path in enumerate(order):
            shutil.copytree(whole.raw / path, arriving.raw / path)
            if position == len(order) - 1 or data.draw(st.booleans(), label=f"release after {path}"):
                release = transform(Settings(data=arriving.path), RUN)
                builds.add(release.built)
                make_live(arriving, release)
        assert content(arriving, release) == expected


@st.composite
def organisation(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A first full read of every table."""
    return [
        {
            "table": table,
            "rows": [
                values | {"_extracted_at": START} for values in draw(st.lists(row(table), min_size=3, max_size=6))
            ],
            "mode": "full",
            "at": START,
        }
        for table in TABLES
    ]


@pytest.mark.slow
@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(
    first=organisation(),
    changes=st.lists(batch(tables=TABLES[:-1], modes=("changes", "changes", "window")), min_size=1, max_size=2),
)
def test_an_incremental_build_gives_the_content_of_a_whole_build(
    first: list[dict[str, Any]], changes: list[dict[str, Any]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = DataRoot(Path(folder))
        lake = Lake(data.raw)
        for described in first:
            write_batch(lake, **described)
        make_live(data, transform(Settings(data=data.path), RUN))
        for described in changes:
            write_batch(lake, **described)
        incremental = transform(Settings(data=data.path), RUN)
        assert incremental.built == "incremental"
        data.live_file.unlink()
        whole = transform(Settings(data=data.path), RUN)
        assert whole.built == "full"
        assert content(data, incremental) == content(data, whole)
