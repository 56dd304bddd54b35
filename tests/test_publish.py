"""The publish stage: one atomic switch, kept releases, rollback, and what changed between two releases."""

from __future__ import annotations

import os
import shutil
import stat
import time
from pathlib import Path

import duckdb
import msgspec
import pytest

from opportunity_sync.data_root import DataRoot
from opportunity_sync.errors import ReleaseError
from opportunity_sync.publish import changes, live, publish, releases, rollback
from opportunity_sync.release import DATABASE, QUALITY, Release, write_release
from opportunity_sync.settings import Settings
from tests.small_organisation import OPPORTUNITIES, build, extract, let_pass, organisation

pytestmark = pytest.mark.slow


def next_candidate(settings: Settings) -> Release:
    return let_pass(settings, build(settings))


def live_id(settings: Settings) -> str:
    with duckdb.connect(str(DataRoot(settings.data).live_file), read_only=True) as connection:
        return str(connection.execute("select release_id from release").fetchall()[0][0])


def test_a_validated_candidate_becomes_the_live_release(candidate: tuple[Settings, Release]) -> None:
    settings, release = candidate
    root = DataRoot(settings.data)

    assert publish(settings, release.release_id) == release

    assert live(settings) == release
    assert live_id(settings) == release.release_id
    assert not (root.candidates / release.release_id).exists()
    assert root.live_file.samefile(root.releases / release.release_id / DATABASE)
    assert stat.S_IMODE(root.live_file.stat().st_mode) == 0o444


def test_the_published_file_keeps_the_format_of_older_clients(candidate: tuple[Settings, Release]) -> None:
    settings, release = candidate
    publish(settings, release.release_id)
    with duckdb.connect() as connection:
        connection.execute(f"attach '{DataRoot(settings.data).live_file}' as live (read_only)")
        found = connection.execute("select tags from duckdb_databases() where database_name = 'live'").fetchall()
    assert found[0][0]["storage_version"].startswith("v1.2.0")


def test_a_candidate_that_was_not_validated_is_refused(candidate: tuple[Settings, Release]) -> None:
    settings, first = candidate
    publish(settings, first.release_id)
    second = build(settings)

    with pytest.raises(ReleaseError, match="is not validated"):
        publish(settings, second.release_id)
    assert live(settings) == first


def test_a_recorded_critical_failure_is_refused_whatever_release_json_says(
    candidate: tuple[Settings, Release],
) -> None:
    settings, release = candidate
    with duckdb.connect(str(DataRoot(settings.data).candidates / release.release_id / DATABASE)) as connection:
        connection.execute("update expectation_results set success = false")

    with pytest.raises(ReleaseError, match="is not validated"):
        publish(settings, release.release_id)
    assert live(settings) is None


def test_a_file_of_another_release_is_refused(candidate: tuple[Settings, Release]) -> None:
    settings, release = candidate
    with duckdb.connect(str(DataRoot(settings.data).candidates / release.release_id / DATABASE)) as connection:
        connection.execute("update release set release_id = 'another'")

    with pytest.raises(ReleaseError, match="is not release"):
        publish(settings, release.release_id)


def test_a_missing_candidate_is_an_error(candidate: tuple[Settings, Release]) -> None:
    settings, _ = candidate
    with pytest.raises(ReleaseError, match="missing or unreadable"):
        publish(settings, "20200101T000000000000Z")


def test_publishing_again_changes_nothing(candidate: tuple[Settings, Release]) -> None:
    settings, release = candidate
    publish(settings, release.release_id)
    before = DataRoot(settings.data).live_file.stat()

    assert publish(settings, release.release_id) == release
    after = DataRoot(settings.data).live_file.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


def test_newer_data_is_never_replaced_by_older_data(candidate: tuple[Settings, Release]) -> None:
    settings, older = candidate
    extract(settings, {"account": organisation()["account"]}, mode="changes")
    newer = next_candidate(settings)
    publish(settings, newer.release_id)

    assert publish(settings, older.release_id) == newer
    assert live(settings) == newer


def test_of_two_candidates_with_the_same_data_the_one_built_later_stays(candidate: tuple[Settings, Release]) -> None:
    settings, older = candidate
    newer = next_candidate(settings)
    publish(settings, newer.release_id)

    assert publish(settings, older.release_id) == newer
    assert live(settings) == newer


def test_a_rebuilt_warehouse_replaces_a_release_with_a_higher_count(candidate: tuple[Settings, Release]) -> None:
    settings, first = candidate
    higher = msgspec.structs.replace(first, sequence=99)
    write_release(DataRoot(settings.data).candidates / first.release_id, higher)
    publish(settings, first.release_id)
    DataRoot(settings.data).warehouse.unlink()
    rebuilt = next_candidate(settings)

    assert rebuilt.sequence < higher.sequence
    assert publish(settings, rebuilt.release_id) == rebuilt


def test_an_older_candidate_of_a_former_warehouse_is_superseded(candidate: tuple[Settings, Release]) -> None:
    settings, former = candidate
    DataRoot(settings.data).warehouse.unlink()
    rebuilt = next_candidate(settings)
    publish(settings, rebuilt.release_id)

    assert publish(settings, former.release_id) == rebuilt


def test_readers_keep_the_file_they_have_open(candidate: tuple[Settings, Release]) -> None:
    settings, first = candidate
    publish(settings, first.release_id)
    with DataRoot(settings.data).live_file.open("rb") as held:
        inode = os.fstat(held.fileno()).st_ino
        second = next_candidate(settings)
        publish(settings, second.release_id)
        assert live_id(settings) == second.release_id
        assert os.fstat(held.fileno()).st_ino == inode != DataRoot(settings.data).live_file.stat().st_ino


def test_without_hard_links_the_file_is_copied(
    candidate: tuple[Settings, Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    settings, first = candidate
    publish(settings, first.release_id)
    second = next_candidate(settings)
    publish(settings, second.release_id)

    root = DataRoot(settings.data)
    assert live(settings) == second
    assert root.live_file.stat().st_nlink == 1
    assert stat.S_IMODE(root.live_file.stat().st_mode) == 0o444
    assert sorted(path.name for path in root.published.iterdir() if path.is_file()) == [DATABASE, QUALITY]


def test_only_the_newest_releases_are_kept(candidate: tuple[Settings, Release]) -> None:
    settings, first = candidate
    keeping_two = settings.model_copy(update={"releases_kept": 2})
    publish(keeping_two, first.release_id)
    second, third = (publish(keeping_two, next_candidate(settings).release_id) for _ in range(2))

    assert releases(settings) == [third, second]
    assert sorted(path.name for path in DataRoot(settings.data).releases.iterdir()) == [
        second.release_id,
        third.release_id,
    ]


def test_the_live_release_is_kept_even_when_it_is_old(candidate: tuple[Settings, Release]) -> None:
    settings, first = candidate
    keeping_one = settings.model_copy(update={"releases_kept": 1})
    publish(settings, first.release_id)
    second = publish(settings, next_candidate(settings).release_id)
    rollback(settings, first.release_id)

    publish(keeping_one, first.release_id)

    assert releases(settings) == [second, first]
    assert live(settings) == first


def test_candidates_of_long_finished_runs_are_removed(candidate: tuple[Settings, Release]) -> None:
    settings, release = candidate
    candidates = DataRoot(settings.data).candidates
    now = time.time()
    for name, age_hours in (("20200101T000000000000Z", 25), ("20200102T000000000000Z", 23)):
        (candidates / name).mkdir()
        os.utime(candidates / name, (now, now - age_hours * 3600))

    publish(settings, release.release_id)

    assert [path.name for path in candidates.iterdir()] == ["20200102T000000000000Z"]


def test_a_half_removed_release_is_no_release_and_is_removed(candidate: tuple[Settings, Release]) -> None:
    settings, first = candidate
    publish(settings, first.release_id)
    second = publish(settings, next_candidate(settings).release_id)
    (DataRoot(settings.data).releases / first.release_id / "release.json").unlink()

    assert releases(settings) == [second]
    publish(settings, second.release_id)
    assert not (DataRoot(settings.data).releases / first.release_id).exists()


def test_rollback_goes_to_the_next_older_release(candidate: tuple[Settings, Release]) -> None:
    settings, first = candidate
    publish(settings, first.release_id)
    second, third = (publish(settings, next_candidate(settings).release_id) for _ in range(2))

    assert rollback(settings) == second
    assert live_id(settings) == second.release_id
    assert rollback(settings) == first
    assert rollback(settings, third.release_id) == third
    assert live_id(settings) == third.release_id


def test_the_report_beside_the_live_file_is_that_of_the_live_release(candidate: tuple[Settings, Release]) -> None:
    settings, first = candidate
    shown = DataRoot(settings.data).published / QUALITY
    publish(settings, first.release_id)
    assert shown.read_text() == f"report of {first.release_id}"
    second = publish(settings, next_candidate(settings).release_id)
    assert shown.read_text() == f"report of {second.release_id}"

    rollback(settings)
    assert shown.read_text() == f"report of {first.release_id}"

    shown.write_text("left by a run that was killed")
    publish(settings, first.release_id)
    assert shown.read_text() == f"report of {first.release_id}"


def test_no_report_of_another_release_stays_beside_a_release_that_has_none(
    candidate: tuple[Settings, Release],
) -> None:
    settings, first = candidate
    root = DataRoot(settings.data)
    (root.candidates / first.release_id / QUALITY).unlink()
    publish(settings, first.release_id)
    assert not (root.published / QUALITY).exists()
    publish(settings, next_candidate(settings).release_id)
    assert (root.published / QUALITY).exists()

    rollback(settings)

    assert not (root.published / QUALITY).exists()


def test_a_run_after_a_rollback_publishes_newer_data_again(candidate: tuple[Settings, Release]) -> None:
    settings, first = candidate
    publish(settings, first.release_id)
    extract(settings, {"account": organisation()["account"]}, mode="changes")
    publish(settings, next_candidate(settings).release_id)
    rollback(settings)

    third = next_candidate(settings)
    assert publish(settings, third.release_id) == third
    assert live(settings) == third


def test_rollback_to_what_is_not_there_names_what_is(candidate: tuple[Settings, Release]) -> None:
    settings, first = candidate
    with pytest.raises(ReleaseError, match=r"no release older than the live one.*none"):
        rollback(settings)
    publish(settings, first.release_id)
    with pytest.raises(ReleaseError, match=rf"no release 2020.*{first.release_id}"):
        rollback(settings, "2020")
    with pytest.raises(ReleaseError, match="no release older than the live one"):
        rollback(settings)


@pytest.mark.parametrize("damage", ["truncated", "gone"])
def test_rollback_never_switches_to_a_damaged_release(damage: str, candidate: tuple[Settings, Release]) -> None:
    settings, first = candidate
    publish(settings, first.release_id)
    second = publish(settings, next_candidate(settings).release_id)
    database = DataRoot(settings.data).releases / first.release_id / DATABASE
    database.unlink()
    if damage == "truncated":
        database.write_bytes(b"not a database")

    with pytest.raises(ReleaseError, match="cannot be read"):
        rollback(settings)
    assert live(settings) == second


def test_rollback_repairs_a_damaged_live_file(candidate: tuple[Settings, Release]) -> None:
    settings, first = candidate
    publish(settings, first.release_id)
    live_file = DataRoot(settings.data).live_file
    live_file.unlink()
    live_file.write_bytes(b"not a database")
    with pytest.raises(ReleaseError, match="opportunity-sync rollback"):
        live(settings)

    assert rollback(settings) == first
    assert live(settings) == first


def test_changes_between_releases_are_counted_by_key(candidate: tuple[Settings, Release]) -> None:
    settings, first = candidate
    publish(settings, first.release_id)
    rows = organisation()["opportunity"]
    renamed = {**rows[2], "name": "Renamed", "versionnumber": 2}
    added = {**rows[4], "opportunityid": "new", "customerid": "c5", "customerid_type": "contact"}
    extract(settings, {"opportunity": [*rows[:2], renamed, *rows[3:-1], added]})
    second = publish(settings, next_candidate(settings).release_id)

    root = DataRoot(settings.data)
    assert changes(
        settings, root.releases / first.release_id / DATABASE, root.releases / second.release_id / DATABASE
    ) == {
        "opportunities": {"inserted": 1, "updated": 1, "deleted": 1},
        "contacts": {"inserted": 0, "updated": 0, "deleted": 0},
        "accounts": {"inserted": 0, "updated": 0, "deleted": 0},
        "opportunity_contact_roles": {"inserted": 1, "updated": 0, "deleted": 1},
    }
    assert second.rows["opportunities"] == OPPORTUNITIES


def test_a_column_that_one_release_lacks_is_no_change(candidate: tuple[Settings, Release], tmp_path: Path) -> None:
    settings, release = candidate
    before, after = DataRoot(settings.data).candidates / release.release_id / DATABASE, tmp_path / "after.duckdb"
    shutil.copy(before, after)
    with duckdb.connect(str(after)) as connection:
        connection.execute("alter table contacts add column new_region varchar default 'north'")
        connection.execute("update contacts set email = null where full_name = 'Secret Person 1'")

    assert changes(settings, before, after)["contacts"] == {"inserted": 0, "updated": 1, "deleted": 0}


def test_changes_of_a_missing_file_are_an_error(candidate: tuple[Settings, Release], tmp_path: Path) -> None:
    settings, release = candidate
    present = DataRoot(settings.data).candidates / release.release_id / DATABASE
    with pytest.raises(ReleaseError, match="cannot be compared"):
        changes(settings, present, tmp_path / "missing.duckdb")
