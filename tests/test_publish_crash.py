"""A publication killed at any of its file operations leaves the old or the new release live; the next one repairs."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from opportunity_sync.data_root import DataRoot
from opportunity_sync.publish import live, publish, releases
from opportunity_sync.release import DATABASE, QUALITY, Release
from opportunity_sync.settings import Settings
from tests.small_organisation import build, extract, let_pass, organisation, settings_for

CHANGING = {"os.rename", "os.link", "os.chmod", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "open"}


def publish_and_die(data: Path, release_id: str, operation: int, operations: Any) -> None:
    """Publish, and be killed just before the given file operation below the data root; counts operations."""
    settings = settings_for(data, releases_kept=1)

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGING and str(arguments[0]).startswith(str(data)):
            operations.value += 1
            if operations.value == operation:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    publish(settings, release_id)


def run_killed(data: Path, release_id: str, operation: int) -> tuple[int, int]:
    """Exit code of a publication, and how many file operations it came to."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["duckdb"])
    operations = context.Value("i", 0)
    process = context.Process(target=publish_and_die, args=(data, release_id, operation, operations))
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode, operations.value


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Release, Release, Release]:
    """Two published releases, and a candidate with a change that passed validation."""
    settings = settings_for(tmp_path_factory.mktemp("template") / "data")
    extract(settings, organisation())
    first, second = (publish(settings, let_pass(settings, build(settings)).release_id) for _ in range(2))
    extract(settings, {"account": organisation()["account"][:-2]})
    return settings, first, second, let_pass(settings, build(settings))


@pytest.mark.slow
def test_a_publication_killed_anywhere_leaves_old_or_new_and_the_next_repairs(
    template: tuple[Settings, Release, Release, Release], tmp_path: Path
) -> None:
    settings, _, old, new = template
    seen: set[str] = set()
    operation, exit_code = 0, -signal.SIGKILL
    while exit_code:
        operation += 1
        data = tmp_path / str(operation)
        copy_root(settings.data, data)
        exit_code, reached = run_killed(data, new.release_id, operation)
        assert (exit_code, reached) == (-signal.SIGKILL, operation) or exit_code == 0

        killed = settings_for(data, releases_kept=1)
        found = live(killed)
        assert found in (old, new)
        seen.add(found.release_id)
        with duckdb.connect(str(DataRoot(data).live_file), read_only=True) as connection:
            ((accounts,),) = connection.execute("select count(*) from accounts").fetchall()
        assert accounts == found.rows["accounts"]

        assert publish(killed, new.release_id) == new
        assert live(killed) == new
        assert releases(killed) == [new]
        assert (DataRoot(data).published / QUALITY).read_text() == f"report of {new.release_id}"
        assert leftovers(data) == []
        shutil.rmtree(data)
    assert seen == {old.release_id, new.release_id}
    assert operation > 20


def copy_root(source: Path, target: Path) -> None:
    """Copy a data root, with the live file as a link to its release, as publishing made it."""
    shutil.copytree(source, target)
    root = DataRoot(target)
    with duckdb.connect(str(root.live_file), read_only=True) as connection:
        ((live_id,),) = connection.execute("select release_id from release").fetchall()
    root.live_file.unlink()
    root.live_file.hardlink_to(root.releases / live_id / DATABASE)


def leftovers(data: Path) -> list[str]:
    root = DataRoot(data)
    return [path.name for path in (*root.published.glob(".*"), *root.candidates.iterdir())]
