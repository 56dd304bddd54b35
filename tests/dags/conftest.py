"""An Airflow home of our own, before anything imports Airflow: it reads its configuration at import."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from opportunity_sync.settings import PROJECT

if TYPE_CHECKING:
    from airflow.sdk import DAG

_home = tempfile.TemporaryDirectory(prefix="airflow-home-")
for _name in [name for name in os.environ if name.startswith("AIRFLOW")]:
    del os.environ[_name]
os.environ |= {
    "AIRFLOW_HOME": _home.name,
    "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
    "AIRFLOW__CORE__PLUGINS_FOLDER": str(PROJECT / "plugins"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
}
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Airflow's own imports warn of its libraries' deprecations
    import airflow.dag_processing.dagbag
    import airflow.sdk.definitions.deadline
    import airflow.serialization.serialized_objects


@pytest.fixture(scope="session")
def bag() -> Iterator[airflow.dag_processing.dagbag.DagBag]:
    """All DAGs of the project, parsed as Airflow does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield airflow.dag_processing.dagbag.DagBag(PROJECT / "dags")


@pytest.fixture
def dag(bag: airflow.dag_processing.dagbag.DagBag) -> DAG:
    """The hourly DAG."""
    return bag.dags["opportunity_sync"]
