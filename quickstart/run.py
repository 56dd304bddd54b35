"""`make run`: one run of the DAG through Airflow, against the stand-in, with progress and a summary."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console

from opportunity_sync import publish
from opportunity_sync.data_root import DataRoot, open_data_root
from opportunity_sync.release import DATABASE
from opportunity_sync.settings import PROJECT, Settings
from quickstart import processes
from quickstart.changes import make_changes
from quickstart.environment import airflow_home, environment, logs
from quickstart.errors import QuickStartError
from quickstart.progress import Progress
from quickstart.settings_file import SETTINGS_FILE, import_commands
from quickstart.stand_in import StandIn, marketo_stand_in, stand_in
from quickstart.summary import show_changes, show_marketo, show_summary


def run(settings: Settings, seed: Path, console: Console) -> int:
    """Run the DAG once; from the second time on, change some rows in the stand-in first.

    Returns:
        Exit code: 0 when the DAG succeeded.

    Raises:
        QuickStartError: another run or the UI is using the data root, or something did not start.
        OpportunitySyncError: the data root is not usable.
    """
    root = open_data_root(settings.data)
    if processes.running(f"up:{settings.data}"):
        raise QuickStartError("`make up` is running on this data root: trigger the DAG there, or end it by `make down`")
    owner = f"run:{settings.data}"
    try:
        with FileLock(settings.data / "quickstart.lock", timeout=0):
            processes.end(owner)  # left over from a run that was killed
            try:
                return _run(settings, root, seed, console, owner)
            finally:
                processes.end(owner)
    except Timeout:
        raise QuickStartError(f"Another `make run` is working on {settings.data}") from None


def _run(settings: Settings, root: DataRoot, seed: Path, console: Console, owner: str) -> int:
    before = publish.live(settings)
    made: list[str] = []
    console.print(f"Data root {settings.data}", highlight=False)
    with ExitStack() as stack:
        with console.status("starting the stand-ins for Dynamics and Marketo"):
            service = stack.enter_context(stand_in(settings, seed, owner=owner))
            marketo = stack.enter_context(marketo_stand_in(settings, seed, owner=owner))
        console.print(f"Stand-in for Dynamics at {service.url}, rows of {seed}", highlight=False)
        console.print(f"Stand-in for Marketo at {marketo.url}, leads of the same contacts", highlight=False)
        if before is not None:
            made = make_changes(settings, seed, service)
            console.print(f"{len(made)} things were changed there since the last run", highlight=False)
        log = logs(settings) / f"run-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.log"
        console.print(f"DAG opportunity_sync through Airflow, log in {log}", highlight=False)
        errors, code = run_dag(settings, service, log, console, owner=owner, marketo=marketo)
    if code != 0:
        console.print("\n[bold red]The run failed.[/] What was published before is still live.", highlight=False)
        for error in dict.fromkeys(errors.values()):
            tasks = ", ".join(task for task, found in errors.items() if found == error)
            console.print(f"  {tasks}: {error}", markup=False, highlight=False)
        console.print(f"Everything Airflow said: {log}", highlight=False)
        return 1
    if before is not None and (after := publish.live(settings)) is not None:
        files = [root.releases / release.release_id / DATABASE for release in (before, after)]
        show_changes(console, made, publish.changes(settings, *files))
    show_summary(console, root.live_file)
    show_marketo(console, settings)
    return 0


def run_dag(
    settings: Settings,
    service: StandIn,
    log: Path,
    console: Console,
    *,
    owner: str,
    objects: Path = SETTINGS_FILE,
    marketo: StandIn | None = None,
) -> tuple[dict[str, str], int]:
    """Set the private Airflow up and run the DAG once in it.

    Args:
        settings: settings with the data root.
        service: the running stand-in for Dynamics.
        log: file that takes everything Airflow says.
        console: where progress is shown.
        owner: mark of the processes started, see `processes.py`.
        objects: the `airflow_settings.yaml` with connections, pools and variables.
        marketo: the running stand-in for Marketo; without one, nothing is loaded there.

    Returns:
        The errors of the tasks that failed, and the exit code.
    """
    commands = [
        ["db", "migrate"],
        *import_commands(
            objects,
            airflow_home(settings) / "import",
            url=service.url,
            ca_bundle=service.ca_bundle,
            marketo=(marketo.url, marketo.ca_bundle) if marketo else None,
        ),
        ["dags", "test", "opportunity_sync"],
    ]
    readable, writable = os.pipe()
    with log.open("wb") as output:
        process = processes.start(
            [sys.executable, "-m", "quickstart.airflow_cli", str(writable), json.dumps(commands)],
            owner=owner,
            environment=environment(settings),
            folder=PROJECT,
            output=output,
            pass_fds=(writable,),
        )
    os.close(writable)
    with os.fdopen(readable, encoding="utf-8") as events, Progress(console, settings) as progress:
        for line in events:
            progress.show(json.loads(line))
        return progress.errors, process.wait()
