"""Readers that query in a loop while releases are published see one whole, validated release at any moment."""

from __future__ import annotations

import multiprocessing
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import duckdb
import pytest

from opportunity_sync.data_root import DataRoot
from opportunity_sync.errors import ReleaseError
from opportunity_sync.publish import publish
from opportunity_sync.release import Release
from opportunity_sync.settings import Settings
from tests.small_organisation import build, extract, let_pass, organisation, settings_for

READERS, PUBLICATIONS = 10, 10

GENERATIONS = """
    select string_agg(distinct generation order by generation), any_value(run_id), count(distinct source)
    from (
        select 'opportunities' as source, split_part(name, ' ', 1) as generation from opportunities
        union all
        select 'accounts', split_part(name, ' ', 1) from accounts
        union all
        select 'account_name', split_part(account_name, ' ', 1) from opportunities where account_name is not null
        union all
        select 'contacts', split_part(full_name, ' ', 1) from contacts
    ), release
"""
"""All names of a release begin with the generation of rows it was made of; `run_id` is that generation."""


def read_in_a_loop(file: Path, stop: Event, results: Any) -> None:
    """Open, query, close until told to stop; every other time query again through the same connection."""
    seen: set[str] = set()
    problems: list[str] = []
    queries = 0
    while not stop.is_set():
        try:
            with duckdb.connect(str(file), read_only=True) as connection:
                generations, run_id, sources = connection.execute(GENERATIONS).fetchall()[0]
                ((checked, failed),) = connection.execute(
                    "select count(*), count(*) filter (not success) from expectation_results"
                ).fetchall()
                queries += 1
                if (generations, sources) != (run_id, 4):
                    problems.append(f"a mixture: {generations} in {run_id}")
                if (checked, failed) != (1, 0):
                    problems.append(f"{run_id} was not validated")
                if queries % 2:
                    time.sleep(0.1)
                    again = connection.execute("select run_id from release").fetchall()
                    if again != [(run_id,)]:
                        problems.append(f"{run_id} became {again} in an open connection")
                seen.add(run_id)
        except duckdb.Error as error:
            problems.append(f"{type(error).__name__}: {error}")
    results.put((queries, seen, problems[:5]))


@pytest.mark.slow
def test_ten_readers_see_whole_validated_releases_during_ten_publications(tmp_path: Path) -> None:
    settings = settings_for(tmp_path / "data", releases_kept=2)
    names = [f"g{number:02}" for number in range(PUBLICATIONS + 1)]
    first, *candidates = [let_pass(settings, candidate(settings, name)).release_id for name in names]
    unvalidated = candidate(settings, "bad").release_id
    publish(settings, first)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["duckdb"])
    stop, results = context.Event(), context.Queue()
    arguments = (DataRoot(settings.data).live_file, stop, results)
    readers = [context.Process(target=read_in_a_loop, args=arguments) for _ in range(READERS)]
    for reader in readers:
        reader.start()

    for release_id in candidates:
        with pytest.raises(ReleaseError, match="not validated"):
            publish(settings, unvalidated)
        publish(settings, release_id)
        time.sleep(0.5)
    stop.set()
    found = [results.get(timeout=60) for _ in readers]
    for reader in readers:
        reader.join(60)

    assert [problems for _, _, problems in found if problems] == []
    assert all(queries > PUBLICATIONS for queries, _, _ in found)
    seen = set().union(*(seen for _, seen, _ in found))
    assert seen <= set(names)
    assert len(seen) > PUBLICATIONS // 2


def candidate(settings: Settings, generation: str) -> Release:
    """Extract the organisation anew, with all names beginning with the generation, and build a candidate."""
    rows = organisation()
    for table, column in (("opportunity", "name"), ("account", "name"), ("contact", "fullname")):
        for row in rows[table]:
            row[column] = f"{generation} {row[column]}"
    extract(settings, {table: rows[table] for table in ("opportunity", "account", "contact")})
    return build(settings, generation)
