"""Show what the DAG is doing: one line per task as it ends, the running ones below."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from opportunity_sync.data_root import DataRoot
from opportunity_sync.lake import Lake
from opportunity_sync.release import read_release
from opportunity_sync.settings import Settings
from opportunity_sync.tables import CHILDREN, PARENTS

COMMANDS = {
    "db migrate": "Airflow's database",
    "connections import": "connections",
    "pools import": "pools",
    "variables import": "variables",
    "dags test": "loading the DAG",
}


class Progress:
    """Turns the events of one run into lines."""

    def __init__(self, console: Console, settings: Settings) -> None:
        self._console = console
        self._settings = settings
        self._started: dict[str, float] = {}
        self._status = console.status("starting Airflow")
        self.errors: dict[str, str] = {}
        """The last error of each task that has failed and not succeeded since."""

    def __enter__(self) -> Progress:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def show(self, event: Mapping[str, Any]) -> None:
        """Show one event of `listener.py` or `airflow_cli.py`."""
        if "command" in event:
            self._status.update(COMMANDS.get(" ".join(event["command"]), " ".join(event["command"])))
            return
        label = self._label(event["task"], event["map_index"])
        if event["state"] == "running":
            self._started[label] = time.monotonic()
            self._status.update(", ".join(self._started))
            return
        seconds = time.monotonic() - self._started.pop(label, time.monotonic())
        if event["state"] == "success":
            self.errors.pop(label, None)
            self._line("[green]ok[/]    ", label, self._detail(event["task"], event["map_index"]), seconds)
        else:
            self.errors[label] = event["error"] or "see the log"
            self._line("[red]failed[/]", label, f"try {event['try']}", seconds)

    def _line(self, state: str, label: str, detail: str, seconds: float) -> None:
        self._console.print(f"  {state} {label:<23} {detail:<40} {seconds:6.1f} s", highlight=False, soft_wrap=True)

    @staticmethod
    def _label(task: str, map_index: int) -> str:
        tables = {"extract_children": CHILDREN, "extract_parents": PARENTS}.get(task)
        return f"extract {tables[map_index]}" if tables and map_index >= 0 else task

    def _detail(self, task: str, map_index: int) -> str:
        root = DataRoot(self._settings.data)
        tables = {"extract_children": CHILDREN, "extract_parents": PARENTS}.get(task)
        if tables:
            batch = Lake(root.raw).batches(tables[map_index])[-1]
            return f"{batch.mode} read: {batch.rows:,} rows, {batch.deletes:,} deletes"
        folder = max(root.candidates.glob("*/release.json"), default=None)
        if folder is None:
            folder = max(root.releases.glob("*/release.json"))
        release = read_release(folder.parent)
        if task == "transform":
            return f"{release.built} build: {release.rows['opportunities']:,} opportunities"
        if task == "validate":
            return f"{release.expectations_passed} expectations passed, {release.expectations_failed} failed"
        if task == "load_marketo":
            return f"what differs from release {release.release_id}"
        return f"release {release.release_id}"
