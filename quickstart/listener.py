"""Tell the quick start what each task is doing, as one JSON object per line.

An Airflow listener (https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/listeners.html),
registered in the process that runs the DAG.
"""

from __future__ import annotations

import json
from typing import IO, Any

from airflow.listeners import hookimpl


class TaskListener:
    """Write task states to `events`."""

    def __init__(self, events: IO[str]) -> None:
        self._events = events

    @hookimpl
    def on_task_instance_running(self, previous_state: object, task_instance: Any) -> None:
        """A try has started."""
        self._write("running", task_instance)

    @hookimpl
    def on_task_instance_success(self, previous_state: object, task_instance: Any) -> None:
        """A task has succeeded."""
        self._write("success", task_instance)

    @hookimpl
    def on_task_instance_failed(self, previous_state: object, task_instance: Any, error: object) -> None:
        """A try has failed; the task may be tried again."""
        self._write("failed", task_instance, f"{type(error).__name__}: {error}" if error else None)

    def _write(self, state: str, task_instance: Any, error: str | None = None) -> None:
        event = {
            "task": task_instance.task_id,
            "map_index": task_instance.map_index if task_instance.map_index is not None else -1,
            "try": task_instance.try_number,
            "state": state,
            "error": error,
        }
        print(json.dumps(event), file=self._events, flush=True)
