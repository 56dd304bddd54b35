"""Read the windows of a backfill: `python -m benchmarks.windows URL CA DATA WINDOWS AT_ONCE`.

Each of AT_ONCE processes reads one window at a time, as Airflow's tasks do; what Airflow itself needs to start a task
is not part of it. Prints the seconds from the first request to the last batch, and the rows of each window.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

from emulator.authority import CLIENT_ID, CLIENT_SECRET, TENANT
from opportunity_sync.backfill import Window, plan, read_request, read_window
from opportunity_sync.data_root import open_data_root
from opportunity_sync.dataverse.auth import Credentials, DataverseAuth
from opportunity_sync.dataverse.client import DataverseClient
from opportunity_sync.settings import Settings
from opportunity_sync.tables import load_tables

START = datetime(2026, 1, 1, tzinfo=UTC)


def windows_of(count: int) -> list[Window]:
    """That many windows of one hour."""
    params = {
        "start": START.isoformat(),
        "end": (START + timedelta(hours=count)).isoformat(),
        "tables": ["opportunity"],
        "chunk": "hour",
        "by": "createdon",
    }
    return plan(read_request(params), most=1024)


def warm(_: int) -> None:
    """Let a process import what it needs before the clock starts."""
    import duckdb  # noqa: F401
    import filelock  # noqa: F401
    import msal  # noqa: F401
    import ruamel.yaml  # noqa: F401

    time.sleep(0.5)  # long enough for the others to take one each


def read(url: str, ca_bundle: str, data: Path, window: Window) -> int:
    """One window with a client of its own; gives its rows."""
    settings = Settings(data=data)
    credentials = Credentials(
        kind="secret",
        organization_url=url,
        tenant=TENANT,
        authority=url,
        client_id=CLIENT_ID,
        secret=CLIENT_SECRET,
        ca_bundle=ca_bundle,
    )
    selection = load_tables(settings.tables_file)[window.table]
    with DataverseClient(url, DataverseAuth(credentials), ca_bundle=ca_bundle) as client:
        root = open_data_root(data)
        return read_window(client, selection, root, settings, "benchmark", window, since=START).rows


def main() -> None:
    """Read all windows."""
    url, ca_bundle, data, count, at_once = sys.argv[1:]
    windows = windows_of(int(count))
    open_data_root(Path(data))
    with ProcessPoolExecutor(int(at_once), mp_context=get_context("forkserver")) as pool:
        list(pool.map(warm, range(int(at_once))))
        started = time.perf_counter()
        reads = [pool.submit(read, url, ca_bundle, Path(data), window) for window in windows]
        rows = [each.result() for each in reads]
        seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "rows": rows}))


if __name__ == "__main__":
    main()
