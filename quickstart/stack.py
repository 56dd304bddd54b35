"""`make up` and `make down`: Airflow's UI with everything behind it, on loopback addresses only.

The parts of `airflow standalone` are started one by one, because standalone lets the scheduler and the triggerer serve
logs on all network interfaces; here they do not serve any: the UI reads the log files itself.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import requests
from filelock import FileLock, Timeout
from rich.console import Console

from opportunity_sync.data_root import open_data_root
from opportunity_sync.settings import PROJECT, Settings
from quickstart import processes
from quickstart.environment import airflow_home, environment, logs
from quickstart.errors import QuickStartError
from quickstart.settings_file import SETTINGS_FILE, import_commands
from quickstart.stand_in import start, start_marketo

API_SERVER = "api-server"
COMPONENTS = {
    API_SERVER: (API_SERVER,),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
HOST = "127.0.0.1"
START_SECONDS = 180
PASSWORDS = "simple_auth_manager_passwords.json.generated"


def up(settings: Settings, seed: Path, console: Console, *, port: int) -> int:
    """Start the stand-ins, the scheduler, the DAG processor, the triggerer and the UI, and leave them running.

    Returns:
        Exit code 0.

    Raises:
        QuickStartError: they are running already, a `make run` is, or one of them did not start.
    """
    open_data_root(settings.data)
    owner = _owner(settings)
    if processes.running(owner):
        raise QuickStartError(f"It is running already on {settings.data}. `make down` ends it")
    try:
        with FileLock(settings.data / "quickstart.lock", timeout=0):
            try:
                address = _start(settings, seed, console, owner, port)
            except BaseException:
                processes.end(owner)
                raise
    except Timeout:
        raise QuickStartError(f"A `make run` is working on {settings.data}; wait for it to end") from None
    user, password = next(iter(json.loads((airflow_home(settings) / PASSWORDS).read_text(encoding="utf-8")).items()))
    console.print(f"\nAirflow: {address}  (user {user}, password {password})", highlight=False)
    console.print(f"Data root: {settings.data}; logs in {logs(settings)}; `make down` ends it all", highlight=False)
    return 0


def down(settings: Settings, console: Console) -> int:
    """End everything that `up` has started on this data root, also what lost its parent.

    Returns:
        Exit code 0.
    """
    with console.status("ending Airflow and the stand-in"):
        ended = processes.end(_owner(settings))
    console.print(f"Ended {ended} processes" if ended else f"Nothing was running on {settings.data}", highlight=False)
    return 0


def stack_environment(settings: Settings, port: int) -> dict[str, str]:
    """Environment of an Airflow whose API server listens on `port` of the loopback address."""
    return {
        **environment(settings),
        "AIRFLOW__API__HOST": HOST,
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://{HOST}:{port}",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://{HOST}:{port}/execution/",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
    }


def prepare(
    settings: Settings, url: str, ca_bundle: str, variables: dict[str, str], marketo: tuple[str, str] | None = None
) -> None:
    """Create Airflow's database and import connections, pools and variables; see `import_commands`.

    Raises:
        QuickStartError: Airflow refused.
    """
    folder = airflow_home(settings) / "import"
    imports = import_commands(SETTINGS_FILE, folder, url=url, ca_bundle=ca_bundle, marketo=marketo)
    log = logs(settings) / "airflow-set-up.log"
    with log.open("wb") as output:
        process = processes.start(
            [sys.executable, "-m", "quickstart.airflow_cli", "1", json.dumps([["db", "migrate"], *imports])],
            owner=_owner(settings),
            environment=variables,
            folder=PROJECT,
            output=output,
        )
        if process.wait() != 0:
            raise QuickStartError(f"Airflow's set-up failed; why is at the end of {log}")


def free_port(wanted: int = 0) -> int:
    """`wanted` if nobody listens there, else a free one."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise QuickStartError(f"No free port on {HOST}")


def _owner(settings: Settings) -> str:
    return f"up:{settings.data}"


def _start(settings: Settings, seed: Path, console: Console, owner: str, port: int) -> str:
    with console.status("starting the stand-ins for Dynamics and Marketo"):
        _, service = start(settings, seed, owner=owner)
        _, marketo = start_marketo(settings, seed, owner=owner)
    console.print(f"Stand-in for Dynamics: {service.url}, rows of {seed}", highlight=False)
    console.print(f"Stand-in for Marketo: {marketo.url}", highlight=False)
    port = free_port(port)
    variables = stack_environment(settings, port)
    with console.status("setting Airflow up"):
        prepare(settings, service.url, service.ca_bundle, variables, (marketo.url, marketo.ca_bundle))
    address = f"http://{HOST}:{port}"
    with console.status("waiting for Airflow"):
        # The API server first: tasks report to it, and one that starts before it is there is lost until its retry.
        server = {API_SERVER: _component(settings, API_SERVER, owner, variables)}
        _wait(address, server, logs(settings), parts=("metadatabase",))
        others = {name: _component(settings, name, owner, variables) for name in COMPONENTS if name != API_SERVER}
        _wait(address, server | others, logs(settings), parts=("scheduler", "triggerer", "dag_processor"))
    return address


def _component(settings: Settings, name: str, owner: str, variables: dict[str, str]) -> subprocess.Popen[bytes]:
    with (logs(settings) / f"{name}.log").open("ab") as output:
        return processes.start(
            [sys.executable, "-m", "airflow", *COMPONENTS[name]],
            owner=owner,
            environment=variables,
            folder=PROJECT,
            output=output,
        )


def _wait(address: str, started: dict[str, subprocess.Popen[bytes]], folder: Path, *, parts: tuple[str, ...]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        for name, process in started.items():
            if process.poll() is not None:
                raise QuickStartError(f"Airflow's {name} ended at once; why is at the end of {folder / name}.log")
        if _healthy(address, parts):
            return
        time.sleep(0.5)
    raise QuickStartError(f"Airflow is not healthy after {START_SECONDS} s; see the logs in {folder}")


def _healthy(address: str, parts: tuple[str, ...]) -> bool:
    try:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.get(f"{address}/api/v2/monitor/health", timeout=5)
    except requests.RequestException:
        return False
    return answer.ok and all(answer.json()[part]["status"] == "healthy" for part in parts)
