from __future__ import annotations

import os
from pathlib import Path

import pytest
import requests

from opportunity_sync.data_root import open_data_root
from opportunity_sync.settings import Settings
from quickstart import processes
from quickstart.errors import QuickStartError
from quickstart.stand_in import SAMPLE_DATA, remember, stand_in

pytestmark = pytest.mark.slow

OWNER = f"test:stand-in:{os.getpid()}"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    open_data_root(tmp_path / "data")
    return Settings(data=tmp_path / "data")


def test_the_stand_in_answers_while_the_block_runs_and_is_gone_after_it(settings: Settings) -> None:
    with stand_in(settings, SAMPLE_DATA, owner=OWNER) as service:
        answer = requests.get(f"{service.url}/_control/health", verify=service.ca_bundle, timeout=10)
        assert answer.json()["status"] == "ok"
    assert processes.running(OWNER) == []


def test_the_organisation_is_the_same_one_the_next_time(settings: Settings) -> None:
    operation = {"op": "update", "table": "opportunity", "id": "00000000-0000-4000-8000-0000000d0001"}
    with stand_in(settings, SAMPLE_DATA, owner=OWNER) as service:
        service.apply([operation | {"values": {"name": "Renamed"}}])
    with stand_in(settings, SAMPLE_DATA, owner=OWNER) as service:
        answer = requests.post(
            f"{service.url}/_control/rows", json={"table": "opportunity"}, verify=service.ca_bundle, timeout=10
        )
    assert "Renamed" in {row["name"] for row in answer.json()["rows"]}


def test_a_refused_change_changes_nothing_and_says_why(settings: Settings) -> None:
    fine = {"op": "update", "table": "opportunity", "id": "00000000-0000-4000-8000-0000000d0001"}
    with stand_in(settings, SAMPLE_DATA, owner=OWNER) as service:
        with pytest.raises(QuickStartError, match="refused the changes"):
            service.apply([fine | {"values": {"name": "Renamed"}}, {"op": "explode", "table": "opportunity"}])
        answer = requests.post(
            f"{service.url}/_control/rows", json={"table": "opportunity"}, verify=service.ca_bundle, timeout=10
        )
    assert "Renamed" not in {row["name"] for row in answer.json()["rows"]}


def test_a_data_root_keeps_the_seed_it_began_with(settings: Settings, tmp_path: Path) -> None:
    remember(settings, {"seed": "/somewhere/else"})
    with (
        pytest.raises(QuickStartError, match="Set OPPORTUNITY_SYNC_DATA to another folder"),
        stand_in(settings, tmp_path, owner=OWNER),
    ):
        pass


def test_a_seed_that_is_no_folder_is_refused(settings: Settings, tmp_path: Path) -> None:
    with (
        pytest.raises(QuickStartError, match="There is no folder"),
        stand_in(settings, tmp_path / "missing", owner=OWNER),
    ):
        pass


def test_a_stand_in_that_cannot_start_is_an_error_that_names_its_log(settings: Settings, tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    seed.mkdir()
    (seed / "opportunities.json").write_text("not json", encoding="utf-8")
    with (
        pytest.raises(QuickStartError, match=r"did not start.*stand-in\.log"),
        stand_in(settings, seed, owner=OWNER),
    ):
        pass
    assert processes.running(OWNER) == []
