"""Run `airflow` commands in the private Airflow of a data root, against a stand-in that is running."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping

from opportunity_sync.settings import PROJECT, Settings
from quickstart import processes
from quickstart.environment import airflow_home, environment, logs
from quickstart.settings_file import SETTINGS_FILE, import_commands
from quickstart.stand_in import StandIn


def airflow(
    settings: Settings,
    service: StandIn,
    *commands: list[str],
    owner: str,
    variables: Mapping[str, str] | None = None,
) -> tuple[int, str]:
    """Set that Airflow up, and run commands in it until one fails; gives exit code and log.

    `variables` are added to its environment.
    """
    log = logs(settings) / "airflow.log"
    imports = import_commands(
        SETTINGS_FILE, airflow_home(settings) / "import", url=service.url, ca_bundle=service.ca_bundle
    )
    events = os.open(os.devnull, os.O_WRONLY)
    try:
        with log.open("wb") as output:
            process = processes.start(
                [
                    sys.executable,
                    "-m",
                    "quickstart.airflow_cli",
                    str(events),
                    json.dumps([["db", "migrate"], *imports, *commands]),
                ],
                owner=owner,
                environment={**environment(settings), **(variables or {})},
                folder=PROJECT,
                output=output,
                pass_fds=(events,),
            )
            code = process.wait()
    finally:
        os.close(events)
    return code, log.read_text(encoding="utf-8", errors="replace")
