"""A soak by hand: `python -m tests.soak --minutes 30`.

`airflow standalone` runs the DAG every minute on its schedule, against a stand-in whose rows keep changing and which
throttles, fails and resets now and then. Afterwards the live release must hold exactly what a full read of the stand-in
into an empty data root gives. Prints progress, the runs by state, and the verdict; exits with 1 when they differ.
"""

from __future__ import annotations

import argparse
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import psutil

from emulator.server import Emulator, running
from opportunity_sync.data_root import DataRoot, open_data_root
from opportunity_sync.settings import PROJECT, Settings
from quickstart import processes, stack
from quickstart.environment import airflow_home, logs
from tests.pipeline import run_once
from tests.stand_in import SAMPLE_DATA, credentials_of

CONTENT = ("opportunities", "opportunity_contact_roles", "contacts", "accounts", "unresolved_references")
FAULTS: list[dict[str, Any]] = [
    {"action": "throttle", "code": "requests", "retry_after": 2, "probability": 0.05, "seed": 1},
    {"action": "throttle", "code": "concurrency", "retry_after": 1, "probability": 0.05, "seed": 2},
    {"action": "status", "status": 503, "probability": 0.03, "seed": 3},
    {"action": "reset", "probability": 0.02, "seed": 4},
    {"action": "truncate", "probability": 0.02, "seed": 5},
]


def content(file: Path) -> dict[str, set[tuple[Any, ...]]]:
    with duckdb.connect(str(file), read_only=True) as connection:
        return {table: set(connection.execute(f"select * from {table}").fetchall()) for table in CONTENT}


def change(organisation: Emulator, chance: random.Random) -> None:
    """One thing a user of Dynamics does."""
    store = organisation.store

    def some(table: str) -> str:
        return str(chance.choice(store.rows(table))[f"{table}id"])

    what = chance.random()
    if what < 0.45:
        values = {"name": f"Deal {chance.randrange(10**6)}", "estimatedvalue": chance.randrange(10**6)}
        store.update("opportunity", some("opportunity"), values)
    elif what < 0.6:
        store.create(
            "opportunity", {"name": "New deal", "customerid_contact@odata.bind": f"/contacts({some('contact')})"}
        )
    elif what < 0.68 and len(store.rows("opportunity")) > 25:
        store.delete("opportunity", some("opportunity"))
    elif what < 0.8:
        store.update("contact", some("contact"), {"jobtitle": f"Title {chance.randrange(100)}"})
    elif what < 0.9:
        store.create(
            "connection",
            {
                "record1id_opportunity@odata.bind": f"/opportunities({some('opportunity')})",
                "record2id_contact@odata.bind": f"/contacts({some('contact')})",
                "record2roleid@odata.bind": f"/connectionroles({some('connectionrole')})",
            },
        )
    elif what < 0.97 and store.rows("connection"):
        store.delete("connection", some("connection"))
    else:
        unmerged = [str(row["accountid"]) for row in store.rows("account") if not row.get("merged")]
        if len(unmerged) > 5:
            store.merge("account", *chance.sample(unmerged, 2))


def runs(home: Path) -> Counter[str]:
    """States of the DAG runs so far."""
    with sqlite3.connect(f"file:{home / 'airflow.db'}?mode=ro", uri=True, timeout=30) as database:
        return Counter(dict(database.execute("select state, count(*) from dag_run group by state").fetchall()))


def latest_success(home: Path) -> datetime:
    """When the newest successful run began."""
    with sqlite3.connect(f"file:{home / 'airflow.db'}?mode=ro", uri=True, timeout=30) as database:
        found = database.execute("select max(start_date) from dag_run where state = 'success'").fetchone()[0]
    return datetime.fromisoformat(found).replace(tzinfo=UTC) if found else datetime.min.replace(tzinfo=UTC)


def say(text: str) -> None:
    sys.stdout.write(f"{datetime.now(UTC):%H:%M:%S} {text}\n")
    sys.stdout.flush()


def soak(settings: Settings, organisation: Emulator, minutes: float) -> bool:
    """Run, change, throttle; True when the release equals the organisation at the end."""
    owner = f"soak:{settings.data}"
    home = airflow_home(settings)
    variables = {
        **stack.stack_environment(settings, stack.free_port()),
        "OPPORTUNITY_SYNC_SCHEDULE": "* * * * *",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(stack.free_port()),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(stack.free_port()),
    }
    stack.prepare(settings, organisation.url, organisation.ca_bundle, variables)
    chance = random.Random(20261122)
    changes = 0
    try:
        with (logs(settings) / "standalone.log").open("wb") as output:
            command = [sys.executable, "-m", "airflow", "standalone"]
            processes.start(command, owner=owner, environment=variables, folder=PROJECT, output=output)
        until = time.monotonic() + minutes * 60
        told = 0.0
        while time.monotonic() < until:
            organisation.set_faults(FAULTS if chance.random() < 0.7 else [])
            for _ in range(chance.randrange(4)):
                change(organisation, chance)
                changes += 1
            time.sleep(chance.uniform(0.5, 4))
            if time.monotonic() - told > 60:
                told = time.monotonic()
                memory = sum(process.memory_info().rss for process in processes.running(owner) if process.is_running())
                say(f"{changes} changes, runs {dict(runs(home))}, Airflow holds {memory / 2**20:.0f} MiB")
        organisation.set_faults([])
        ended = datetime.now(UTC)
        say(f"no more changes; waiting for a run that begins after {ended:%H:%M:%S}")
        deadline = time.monotonic() + 600
        while latest_success(home) < ended:
            if time.monotonic() > deadline:
                say("no run succeeded within ten minutes")
                return False
            time.sleep(2)
        say(f"runs {dict(runs(home))}, {len(organisation.requests)} requests served")
    finally:
        processes.end(owner)
    fresh = settings.data.parent / "fresh"
    run_once(fresh, credentials_of(organisation), at=datetime.now(UTC), page_size=5000)
    live, expected = content(DataRoot(settings.data).live_file), content(DataRoot(fresh).live_file)
    for table in CONTENT:
        say(f"{table}: {len(live[table])} rows, {len(live[table] ^ expected[table])} differ")
    return live == expected


def main() -> int:
    """Run the soak; its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as folder, running(SAMPLE_DATA) as organisation:
        settings = Settings(data=Path(folder) / "data")
        open_data_root(settings.data)
        same = soak(settings, organisation, minutes)
    say("the release equals the organisation" if same else "THE RELEASE DIFFERS")
    say(f"processes left: {len(psutil.Process().children(recursive=True))}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
