"""The private Airflow of one data root, as environment variables: nothing of it lies outside the data root."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from opportunity_sync.settings import PROJECT, Settings


def environment(settings: Settings) -> dict[str, str]:
    """Environment for every process of the quick start.

    Airflow variables of the caller's own environment are left out: another Airflow on the machine must neither change
    this one nor be changed by it.
    """
    home = airflow_home(settings)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))}
    local = "localhost,127.0.0.1"
    return {
        **inherited,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONPATH": os.pathsep.join([str(PROJECT / "plugins"), str(PROJECT)]),
        "PYTHONUNBUFFERED": "1",
        "NO_PROXY": local,
        "no_proxy": local,
        "OPPORTUNITY_SYNC_DATA": str(settings.data),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}?timeout=60",
        # Only where OPENLINEAGE_URL or the like is set (docs/lineage.md): how long a slow receiver may hold a task up.
        "AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT": "3",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY": str(home / "logs" / "dag_processor"),
    }


def airflow_home(settings: Settings) -> Path:
    """`AIRFLOW_HOME` of the quick start."""
    return settings.data / "airflow"


def logs(settings: Settings) -> Path:
    """Folder of the quick start's own logs; created if needed."""
    folder = settings.data / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
