"""The pages as the API server runs them, asked over HTTP.

`python -m benchmarks.page_requests rename FILE` gives every opportunity of a candidate a name of its own, because a
column of few different values is searched in no time;
`python -m benchmarks.page_requests serve DATA INCLUDE ROUNDS` serves the app and lets `ask` ask it;
`python -m benchmarks.page_requests ask ADDRESS DATA ROUNDS` asks for every page in turn, and looks up an id by itself;
`python -m benchmarks.page_requests swap DATA` makes the two newest releases live in turn.
"""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb

from benchmarks.process import PROJECT

SECONDS_BETWEEN_SWAPS = 2
MISS = "no opportunity is called this"


def rename(file: Path) -> dict[str, Any]:
    """Make every name different."""
    with duckdb.connect(str(file)) as connection:
        connection.execute("update opportunities set name = name || ' ' || hash(opportunity_id)")
        connection.execute("checkpoint")
    return {}


def serve(data: Path, include: Path, rounds: int) -> dict[str, Any]:
    """Serve the app without Airflow's guard; the caller measures this process."""
    import uvicorn
    from fastapi import FastAPI

    from opportunity_sync.pages.app import MOUNT, create_app
    from opportunity_sync.settings import Settings

    settings = Settings(data=data, include=include)
    airflow = FastAPI()
    airflow.mount(MOUNT, create_app(lambda: None, lambda run_id, at: "opportunity_sync", settings=lambda: settings))
    server = uvicorn.Server(uvicorn.Config(airflow, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.05)
        port = server.servers[0].sockets[0].getsockname()[1]
        address = f"http://127.0.0.1:{port}{MOUNT}"
        command = [sys.executable, "-m", "benchmarks.page_requests"]
        done = subprocess.run(
            [*command, "ask", address, str(data), str(rounds)], stdout=subprocess.PIPE, check=True, cwd=PROJECT
        )
        return dict(json.loads(done.stdout))
    finally:
        server.should_exit = True
        thread.join()


def ask(address: str, data: Path, rounds: int) -> dict[str, Any]:
    """Seconds of every request: with one release live, and while two releases replace one another."""
    file = data / "published" / "opportunities.duckdb"
    with duckdb.connect(str(file), read_only=True) as connection:
        newest, oldest = connection.execute("select max(release_id), min(release_id) from releases").fetchall()[0]
        key, name = connection.execute("select opportunity_id, name from opportunities limit 1 offset 123").fetchall()[
            0
        ]
    pages = {
        "Overview": "/",
        "Releases": "/releases",
        "Release": f"/releases/{newest}",
        "Opportunities": "/opportunities",
        "search by a word": "/opportunities?q=renewal",
        "search by a whole name": f"/opportunities?q={name.split()[-1]}",
        "search without a hit": f"/opportunities?q={MISS.replace(' ', '+')}",
        "search by id": f"/opportunities?q={key}",
        "Opportunity": f"/opportunities/{key}",
        "Quality": "/quality",
    }
    lookups = []
    for _ in range(rounds):
        started = time.perf_counter()
        with duckdb.connect(str(file), read_only=True) as connection:
            connection.execute("select name from opportunities where opportunity_id = ?", [key]).fetchall()
        lookups.append(time.perf_counter() - started)
    steady = _ask_all(address, pages, rounds)
    command = [sys.executable, "-m", "benchmarks.page_requests", "swap", str(data)]
    swapping = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE)
    assert swapping.stdout is not None
    try:
        assert swapping.stdout.readline() == b"swapping\n"
        # The newest release is not known to the file of the one before it.
        swapped = _ask_all(address, pages | {"Release": f"/releases/{oldest}"}, rounds)
    finally:
        swapping.terminate()
        swapping.wait()
        swapping.stdout.close()
    return {"lookup": lookups, "steady": steady, "swapped": swapped}


def _ask_all(address: str, pages: dict[str, str], rounds: int) -> dict[str, list[float]]:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    seconds: dict[str, list[float]] = {name: [] for name in pages}
    for _ in range(rounds):
        for name, path in pages.items():
            started = time.perf_counter()
            connection.request("GET", parts.path + path, headers={"Accept": "text/html"})
            answer = connection.getresponse()
            text = answer.read()
            seconds[name].append(time.perf_counter() - started)
            assert answer.status == 200, (path, answer.status, text[:300])
            assert b"data-release=" in text, path
    connection.close()
    return seconds


def swap(data: Path) -> None:
    """Make the two newest releases live in turn, as `opportunity-sync rollback` does, until ended."""
    from opportunity_sync.publish import releases, rollback
    from opportunity_sync.settings import Settings

    settings = Settings(data=data)
    newest = [release.release_id for release in releases(settings)[:2]]
    assert len(newest) == 2
    while True:
        for release_id in reversed(newest):
            rollback(settings, release_id)
            print("swapping", flush=True)
            time.sleep(SECONDS_BETWEEN_SWAPS)


def main() -> None:
    """Do one of the things above."""
    command, *rest = sys.argv[1:]
    started = time.perf_counter()
    if command == "rename":
        found = rename(Path(rest[0]))
    elif command == "serve":
        found = serve(Path(rest[0]), Path(rest[1]), int(rest[2]))
    elif command == "ask":
        found = ask(rest[0], Path(rest[1]), int(rest[2]))
    else:
        swap(Path(rest[0]))
    print(json.dumps({"seconds": time.perf_counter() - started} | found))


if __name__ == "__main__":
    main()
