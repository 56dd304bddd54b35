"""Run several `airflow` commands in one process: `python -m quickstart.airflow_cli EVENTS_FD COMMANDS_JSON`.

Importing Airflow takes several seconds, so that one process per command would make up most of a run. Each command is
what the `airflow` program would do with the same arguments.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Run the commands in order; stop at the first that fails, with its exit code."""
    from airflow.cli.cli_parser import get_parser
    from airflow.configuration import write_default_airflow_configuration_if_needed
    from airflow.sdk.listener import get_listener_manager

    from quickstart.listener import TaskListener

    write_default_airflow_configuration_if_needed()
    parser = get_parser()
    with os.fdopen(os.dup(int(sys.argv[1])), "w", encoding="utf-8") as events:
        get_listener_manager().add_listener(TaskListener(events))  # type: ignore[no-untyped-call]
        for command in json.loads(sys.argv[2]):
            print("$ airflow", *command, flush=True)  # noqa: T201  (into the log)
            print(json.dumps({"command": command[:2]}), file=events, flush=True)
            sys.argv = ["airflow", *command]
            arguments = parser.parse_args(command)
            arguments.func(arguments)


if __name__ == "__main__":
    main()
