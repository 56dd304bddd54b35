from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from opportunity_sync.settings import PROJECT
from quickstart.errors import QuickStartError
from quickstart.settings_file import SETTINGS_FILE, import_commands


def _imported(tmp_path: Path, name: str) -> Any:
    marketo = ("https://localhost:5678", "/data/marketo.pem")
    import_commands(SETTINGS_FILE, tmp_path, url="https://localhost:1234", ca_bundle="/data/ca.pem", marketo=marketo)
    return json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))


def test_every_pool_the_dag_uses_is_imported_and_the_warehouse_has_one_slot(tmp_path: Path) -> None:
    pools = _imported(tmp_path, "pools")
    assert {name: pool["slots"] for name, pool in pools.items()} == {
        "dataverse": 11,
        "warehouse": 1,
        "marketo": 1,
    }
    files = [*(PROJECT / "dags").glob("*.py"), PROJECT / "plugins" / "opportunity_sync" / "release_tasks.py"]
    used = {name for path in files for name in re.findall(r'pool="(\w+)"', path.read_text(encoding="utf-8"))}
    assert used == set(pools)


def test_the_connection_points_at_the_stand_in_of_this_run(tmp_path: Path) -> None:
    connection = _imported(tmp_path, "connections")["dataverse_default"]
    assert (connection["host"], connection["port"]) == ("https://localhost:1234", None)
    assert connection["extra"]["authority"] == "https://localhost:1234"
    assert connection["extra"]["ca_bundle"] == "/data/ca.pem"


def test_the_connection_has_the_stand_ins_own_application_and_tenant(tmp_path: Path) -> None:
    from emulator.authority import CLIENT_ID, CLIENT_SECRET, TENANT

    connection = _imported(tmp_path, "connections")["dataverse_default"]
    assert (connection["login"], connection["password"]) == (CLIENT_ID, CLIENT_SECRET)
    assert connection["extra"]["tenant"] == TENANT


@pytest.mark.parametrize("room", ["dataverse", "marketo"])
def test_the_connections_fields_are_the_hooks(tmp_path: Path, room: str) -> None:
    hook = (PROJECT / "plugins" / "opportunity_sync" / room / "hook.py").read_text(encoding="utf-8")
    extra = _imported(tmp_path, "connections")[f"{room}_default"]["extra"]
    assert all(f"`{key}`" in hook for key in extra)


def test_the_marketo_connection_is_the_stand_ins(tmp_path: Path) -> None:
    from emulator.marketo.identity import CLIENT_ID, CLIENT_SECRET

    connection = _imported(tmp_path, "connections")["marketo_default"]
    assert (connection["host"], connection["port"]) == ("https://localhost:5678", None)
    assert (connection["login"], connection["password"]) == (CLIENT_ID, CLIENT_SECRET)
    assert connection["extra"]["ca_bundle"] == "/data/marketo.pem"


def test_without_a_stand_in_for_marketo_its_connection_is_left_out(tmp_path: Path) -> None:
    import_commands(SETTINGS_FILE, tmp_path, url="https://localhost:1234", ca_bundle="/data/ca.pem")
    connections = json.loads((tmp_path / "connections.json").read_text(encoding="utf-8"))
    assert list(connections) == ["dataverse_default"]


def test_the_variable_of_the_alerts_exists_and_is_empty(tmp_path: Path) -> None:
    assert _imported(tmp_path, "variables") == {"opportunity_sync_alert_emails": ""}


def test_files_with_secrets_are_for_the_owner_only(tmp_path: Path) -> None:
    _imported(tmp_path, "connections")
    assert (tmp_path / "connections.json").stat().st_mode & 0o077 == 0


def test_a_value_set_by_hand_survives_the_next_import(tmp_path: Path) -> None:
    commands = import_commands(SETTINGS_FILE, tmp_path, url="https://localhost:1", ca_bundle="ca")
    variables = next(command for command in commands if command[0] == "variables")
    assert variables[2:4] == ["--action-on-existing-key", "skip"]


def test_a_file_without_the_connection_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "airflow_settings.yaml"
    file.write_text("airflow: {connections: [], pools: [], variables: []}\n", encoding="utf-8")
    with pytest.raises(QuickStartError, match="no connection dataverse_default"):
        import_commands(file, tmp_path, url="https://localhost:1", ca_bundle="ca")
