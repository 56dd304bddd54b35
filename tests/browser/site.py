"""Airflow's own API server with the pages, over a data root that two real runs of the DAG have published."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
from playwright.sync_api import Page
from rich.console import Console

from opportunity_sync.data_root import open_data_root
from opportunity_sync.settings import Settings
from quickstart import processes, stack
from quickstart.changes import make_changes
from quickstart.environment import airflow_home, logs
from quickstart.run import run_dag
from quickstart.stand_in import SAMPLE_DATA, StandIn, stand_in

SHOWN = pytest.StashKey[tuple[Page, Path]]()
"""The page that a test looks at, and where to keep what it showed if the test fails."""


@dataclass(frozen=True)
class Site:
    """A running Airflow, and what its pages have to show."""

    address: str
    user: str
    password: str
    data: Path

    @property
    def file(self) -> Path:
        """The live release."""
        return self.data / "published" / "opportunities.duckdb"

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.file), read_only=True) as connection:
            return connection.execute(sql).fetchall()

    def value(self, sql: str) -> Any:
        ((found,),) = self.query(sql)
        return found


@contextmanager
def serving(data: Path) -> Iterator[Site]:
    """Publish the sample organisation twice, with changes in between, and serve the pages as long as the block."""
    settings = Settings(data=data)
    open_data_root(data)
    owner = f"up:{data}"
    try:
        with stand_in(settings, SAMPLE_DATA, owner=owner) as service:
            _run(settings, service, owner)
            make_changes(settings, SAMPLE_DATA, service)
            _run(settings, service, owner)
        variables = stack.stack_environment(settings, stack.free_port())
        server = stack._component(settings, stack.API_SERVER, owner, variables)
        try:
            address = variables["AIRFLOW__API__BASE_URL"]
            stack._wait(address, {stack.API_SERVER: server}, logs(settings), parts=("metadatabase",))
            passwords = json.loads((airflow_home(settings) / stack.PASSWORDS).read_text(encoding="utf-8"))
            ((user, password),) = passwords.items()
            yield Site(address, user, password, data)
        finally:
            server.terminate()
            server.wait(30)
    finally:
        processes.end(owner)


def _run(settings: Settings, service: StandIn, owner: str) -> None:
    log = settings.data / "run.log"
    errors, code = run_dag(settings, service, log, Console(quiet=True), owner=owner)
    assert code == 0, f"{errors}; see {log}"
