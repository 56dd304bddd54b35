"""The validate stage: what stops a release, what is published with a warning, and what is written where."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import msgspec
import pytest

from opportunity_sync.data_root import DataRoot
from opportunity_sync.errors import ReleaseError, ValidationFailedError
from opportunity_sync.publish import live, publish
from opportunity_sync.release import DATABASE, QUALITY, Release, read_release, write_release
from opportunity_sync.settings import Settings
from opportunity_sync.validate import validate
from tests.lakes import identity
from tests.small_organisation import build, extract, let_pass, organisation, settings_for

pytestmark = pytest.mark.slow

Copy = Callable[[], tuple[Settings, Release]]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Settings, Release]:
    settings = settings_for(tmp_path_factory.mktemp("template") / "data")
    extract(settings, organisation())
    return settings, build(settings)


@pytest.fixture
def candidate(template: tuple[Settings, Release], tmp_path: Path) -> tuple[Settings, Release]:
    """A data root with a healthy candidate that is not validated yet."""
    settings, release = template
    shutil.copytree(settings.data, tmp_path / "data")
    return settings_for(tmp_path / "data"), release


def folder_of(settings: Settings, release: Release) -> Path:
    return DataRoot(settings.data).candidates / release.release_id


def spoil(settings: Settings, release: Release, sql: str) -> None:
    with duckdb.connect(str(folder_of(settings, release) / DATABASE)) as connection:
        connection.execute(sql)


def results(database: Path, where: str = "true") -> list[tuple[str, str]]:
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(
            f"select relation, expectation from expectation_results where {where} order by all"
        ).fetchall()


def test_a_healthy_candidate_is_validated_and_its_results_are_recorded(
    candidate: tuple[Settings, Release],
) -> None:
    settings, release = candidate

    validated = validate(settings, release.release_id)

    folder = folder_of(settings, release)
    assert validated == read_release(folder)
    assert validated.validated
    assert validated.expectations_failed == 0
    assert len(results(folder / DATABASE, "success")) == validated.expectations_passed > 130
    assert len(json.loads((folder / "validation.json").read_text())["results"]) == validated.expectations_passed


def test_validating_again_replaces_the_results(candidate: tuple[Settings, Release]) -> None:
    settings, release = candidate
    first = validate(settings, release.release_id)
    found = results(folder_of(settings, release) / DATABASE)

    assert validate(settings, release.release_id) == first
    assert results(folder_of(settings, release) / DATABASE) == found


def test_a_critical_failure_stops_the_release_and_leaves_the_live_one(
    candidate: tuple[Settings, Release],
) -> None:
    settings, first = candidate
    publish(settings, let_pass(settings, first).release_id)
    second = build(settings)
    spoil(settings, second, "update opportunities set account_rule = 'guess' where name = 'Deal 7'")

    with pytest.raises(ValidationFailedError) as failure:
        validate(settings, second.release_id)

    failed = DataRoot(settings.data).published / "failed" / second.release_id
    assert live(settings) == read_release(DataRoot(settings.data).releases / first.release_id)
    assert not folder_of(settings, second).exists()
    assert not read_release(failed).validated
    assert results(failed / DATABASE, "not success and severity = 'critical'") == [
        ("opportunities", "account_agrees_with_rule"),
        ("opportunities", "expect_column_values_to_be_in_set"),
    ]
    text = str(failure.value)
    assert str(failed / "validation.json") in text
    assert str(failed / QUALITY) in text
    assert "Refused: 2 critical expectations of" in (failed / QUALITY).read_text()
    assert str(identity("o7")) in text
    assert "expect_column_values_to_be_in_set (account_rule)  1 of 40 rows" in text
    assert not failure.value.transient


def test_neither_message_nor_report_holds_personal_data(
    candidate: tuple[Settings, Release], caplog: pytest.LogCaptureFixture
) -> None:
    settings, release = candidate
    spoil(settings, release, "insert into contacts select * from contacts; update accounts set account_id = null")
    spoil(settings, release, "update opportunities set account_name = null, account_rule = name")

    with pytest.raises(ValidationFailedError) as failure:
        validate(settings, release.release_id)

    folder = DataRoot(settings.data).published / "failed" / release.release_id
    reports = [(folder / name).read_text() for name in ("validation.json", QUALITY)]
    for text in (str(failure.value), *reports, caplog.text):
        assert not [word for word in ("Secret", "secret", "@example", "Account 1", "Deal") if word in text]
    assert [str(identity("c1")) in report for report in reports] == [True, True]


def test_a_failed_candidate_can_be_validated_again(candidate: tuple[Settings, Release]) -> None:
    settings, release = candidate
    spoil(settings, release, "update opportunities set is_won = true where name = 'Deal 0'")
    with pytest.raises(ValidationFailedError):
        validate(settings, release.release_id)
    failed = DataRoot(settings.data).published / "failed" / release.release_id
    with duckdb.connect(str(failed / DATABASE)) as connection:
        connection.execute("update opportunities set is_won = false where name = 'Deal 0'")

    assert validate(settings, release.release_id).validated
    assert not failed.exists()


def test_warnings_are_recorded_and_do_not_stop_the_release(
    candidate: tuple[Settings, Release], caplog: pytest.LogCaptureFixture
) -> None:
    settings, release = candidate
    spoil(settings, release, "update opportunities set account_name = null where name = 'Deal 2'")

    validated = validate(settings, release.release_id)

    assert (validated.validated, validated.expectations_failed) == (True, 1)
    assert results(folder_of(settings, release) / DATABASE, "not success and severity = 'warning'") == [
        ("opportunities", "account_has_a_name")
    ]
    assert "account_has_a_name" in caplog.text


def test_an_expectation_that_cannot_be_evaluated_stops_the_release(
    candidate: tuple[Settings, Release],
) -> None:
    settings, release = candidate
    spoil(settings, release, "alter table opportunities drop column account_name")

    with pytest.raises(ValidationFailedError, match=r"account_has_a_name +could not be evaluated"):
        validate(settings, release.release_id)

    failed = DataRoot(settings.data).published / "failed" / release.release_id
    assert ("opportunities", "account_has_a_name") in results(
        failed / DATABASE, "not success and severity = 'critical' and unexpected_count is null"
    )


def test_a_collapse_stops_the_release_until_the_share_is_accepted(candidate: tuple[Settings, Release]) -> None:
    settings, release = candidate
    publish(settings, let_pass(settings, release).release_id)
    rows = organisation()
    extract(settings, {"opportunity": rows["opportunity"][:15]})
    collapsed = build(settings)

    with pytest.raises(ValidationFailedError) as failure:
        validate(settings, collapsed.release_id)
    assert "15 rows, not at least 20" in str(failure.value)
    assert f"opportunity-sync publish {collapsed.release_id} --accept-collapse" in str(failure.value)

    accepting = settings.model_copy(update={"minimum_rows_share": 0.0})
    assert validate(accepting, collapsed.release_id).validated


def test_a_selected_column_gone_from_dynamics_is_a_warning_that_names_it(
    candidate: tuple[Settings, Release],
) -> None:
    from opportunity_sync.lake import Lake
    from tests.lakes import write_batch

    settings, _ = candidate
    root = DataRoot(settings.data)
    rows = [{key: value for key, value in row.items() if key != "name"} for row in organisation()["account"]]
    write_batch(Lake(root.raw), "account", rows, without=["name"])
    release = build(settings)

    assert validate(settings, release.release_id).validated
    with duckdb.connect(str(folder_of(settings, release) / DATABASE), read_only=True) as connection:
        found = connection.execute(
            "select relation, column_name from expectation_results where suite = 'extracted' and not success"
        ).fetchall()
    assert found == [("account", "name")]


def test_a_candidate_older_than_the_live_release_is_left_alone(candidate: tuple[Settings, Release]) -> None:
    settings, older = candidate
    extract(settings, {"account": organisation()["account"]}, mode="changes")
    newer = build(settings)
    publish(settings, let_pass(settings, newer).release_id)

    assert validate(settings, older.release_id) == older
    assert not read_release(folder_of(settings, older)).validated


def test_a_published_release_is_left_alone(candidate: tuple[Settings, Release]) -> None:
    settings, release = candidate
    published = publish(settings, let_pass(settings, release).release_id)

    assert validate(settings, release.release_id) == published


@pytest.mark.parametrize("warehouse", ["gone", "damaged", "moved on"])
def test_staging_is_not_compared_with_a_candidate_built_from_other_batches(
    warehouse: str, candidate: tuple[Settings, Release], caplog: pytest.LogCaptureFixture
) -> None:
    settings, release = candidate
    if warehouse == "gone":
        DataRoot(settings.data).warehouse.unlink()
    elif warehouse == "damaged":
        DataRoot(settings.data).warehouse.write_bytes(b"damaged")
    else:
        extract(settings, {"opportunity": organisation()["opportunity"][:30]})
        build(settings)

    validate(settings, release.release_id)

    assert "staging not checked" in caplog.text
    with duckdb.connect(str(folder_of(settings, release) / DATABASE), read_only=True) as connection:
        suites = connection.execute("select distinct suite from expectation_results order by all").fetchall()
    assert suites == [("marts",), ("release",)]


def test_an_unknown_candidate_is_an_error(candidate: tuple[Settings, Release]) -> None:
    settings, _ = candidate
    with pytest.raises(ReleaseError, match="20200101T000000000000Z"):
        validate(settings, "20200101T000000000000Z")


def test_a_candidate_that_a_killed_publication_made_read_only_is_validated(
    candidate: tuple[Settings, Release],
) -> None:
    settings, release = candidate
    (folder_of(settings, release) / DATABASE).chmod(0o444)
    assert validate(settings, release.release_id).validated


def test_only_the_newest_failed_candidates_are_kept(candidate: tuple[Settings, Release]) -> None:
    settings, release = candidate
    failed = DataRoot(settings.data).published / "failed"
    for day in range(1, 5):
        (failed / f"2020010{day}T000000000000Z").mkdir(parents=True)
        write_release(failed / f"2020010{day}T000000000000Z", msgspec.structs.replace(release, release_id=str(day)))
    spoil(settings, release, "delete from release")

    with pytest.raises(ValidationFailedError):
        validate(settings, release.release_id)

    assert sorted(path.name for path in failed.iterdir()) == [
        "20200103T000000000000Z",
        "20200104T000000000000Z",
        release.release_id,
    ]


def test_validation_opens_no_connection_prints_nothing_and_leaves_no_other_file(
    candidate: tuple[Settings, Release],
    socket_disabled: None,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    settings, release = candidate
    place = tmp_path / "elsewhere"
    place.mkdir()
    monkeypatch.chdir(place)
    for name in ("HOME", "TMPDIR"):
        monkeypatch.setenv(name, str(place))
    monkeypatch.setattr("tempfile.tempdir", None)
    before = set(tmp_path.rglob("*"))

    validate(settings, release.release_id)

    printed = "".join(capfd.readouterr()).splitlines()
    assert [line for line in printed if "validate: " not in line] == []  # our own log may be shown
    assert set(tmp_path.rglob("*")) - before == {
        folder_of(settings, release) / "validation.json",
        folder_of(settings, release) / QUALITY,
    }
