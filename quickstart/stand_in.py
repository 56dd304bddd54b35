"""Start and end the stand-ins for Dynamics and Marketo, and remember which rows a data root began with."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opportunity_sync.data_root import write_atomically
from opportunity_sync.settings import PROJECT, Settings
from quickstart import processes
from quickstart.environment import environment, logs
from quickstart.errors import QuickStartError

SAMPLE_DATA = PROJECT / "sample_data"
START_SECONDS = 600
"""Longest wait for the stand-in: a folder with millions of rows takes minutes to read the first time."""


@dataclass(frozen=True)
class StandIn:
    """A running stand-in."""

    url: str
    ca_bundle: str

    def apply(self, operations: list[dict[str, Any]]) -> None:
        """Change rows as users of Dynamics would, all or none.

        Raises:
            QuickStartError: the stand-in refused an operation.
        """
        import requests

        with requests.Session() as session:
            session.trust_env = False  # CA variables of the environment would win over `verify`
            answer = session.post(
                f"{self.url}/_control/operations", json={"operations": operations}, verify=self.ca_bundle, timeout=300
            )
        if not answer.ok:
            raise QuickStartError(f"The stand-in refused the changes: {answer.status_code} {answer.text[:500]}")


@contextmanager
def stand_in(settings: Settings, seed: Path, *, owner: str) -> Iterator[StandIn]:
    """A stand-in for Dynamics that runs as long as the block.

    Raises:
        QuickStartError: see `start`.
    """
    with _ended(*start(settings, seed, owner=owner)) as running:
        yield running


@contextmanager
def marketo_stand_in(settings: Settings, seed: Path, *, owner: str) -> Iterator[StandIn]:
    """A stand-in for Marketo that runs as long as the block.

    Raises:
        QuickStartError: see `start_marketo`.
    """
    with _ended(*start_marketo(settings, seed, owner=owner)) as running:
        yield running


@contextmanager
def _ended(process: subprocess.Popen[bytes], running: StandIn) -> Iterator[StandIn]:
    try:
        yield running
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start(settings: Settings, seed: Path, *, owner: str) -> tuple[subprocess.Popen[bytes], StandIn]:
    """Start the stand-in for Dynamics on a free loopback port and wait until it answers.

    Raises:
        QuickStartError: the data root's organisation was seeded from another folder, or the stand-in did not start.
    """
    _check_seed(settings, seed)
    arguments = ["emulator", "--data", str(seed), "--state", str(settings.data / "emulator")]
    started = _start(settings, "Dynamics", arguments, logs(settings) / "stand-in.log", owner=owner)
    remember(settings, {"seed": str(seed)})
    return started


def start_marketo(settings: Settings, seed: Path, *, owner: str) -> tuple[subprocess.Popen[bytes], StandIn]:
    """Start the stand-in for Marketo on a free loopback port; a new one has leads made of the seed's contacts.

    Raises:
        QuickStartError: it did not start.
    """
    arguments = ["emulator.marketo", "--state", str(settings.data / "marketo-emulator")]
    contacts = seed / "contacts.json"
    if contacts.exists():
        arguments += ["--contacts", str(contacts)]
    return _start(settings, "Marketo", arguments, logs(settings) / "stand-in-marketo.log", owner=owner)


def _start(
    settings: Settings, whom: str, arguments: list[str], log: Path, *, owner: str
) -> tuple[subprocess.Popen[bytes], StandIn]:
    command = [sys.executable, "-m", *arguments, "--port", "0"]
    with log.open("wb") as output:
        process = processes.start(
            command, owner=owner, environment=environment(settings), folder=PROJECT, output=output
        )
    try:
        running = _wait(process, whom, log)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return process, running


def read_record(settings: Settings) -> dict[str, Any]:
    """What the quick start remembers about a data root: `seed`, and `changed` once `changes.json` was applied."""
    record = _record(settings)
    return dict(json.loads(record.read_text(encoding="utf-8"))) if record.exists() else {}


def remember(settings: Settings, facts: Mapping[str, Any]) -> None:
    """Add facts to what is remembered."""
    write_atomically(_record(settings), json.dumps({**read_record(settings), **facts}) + "\n")


def _record(settings: Settings) -> Path:
    return settings.data / "quickstart.json"


def _check_seed(settings: Settings, seed: Path) -> None:
    if not seed.is_dir():
        raise QuickStartError(f"There is no folder {seed}. SEED has to hold accounts.json, contacts.json and so on")
    known = read_record(settings).get("seed")
    if known is not None and known != str(seed):
        raise QuickStartError(
            f"The data root {settings.data} holds an organisation that began with the rows of {known}, "
            f"not of {seed}. Set OPPORTUNITY_SYNC_DATA to another folder, or delete {settings.data} to begin anew"
        )


def _wait(process: subprocess.Popen[bytes], whom: str, log: Path) -> StandIn:
    """Wait for the line `ready URL ca=PATH`."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
            if line.startswith("ready ") and line.endswith("\n"):
                _, url, ca = line.split(maxsplit=2)
                return StandIn(url=url, ca_bundle=ca.strip().removeprefix("ca="))
        time.sleep(0.1)
    raise QuickStartError(f"The stand-in for {whom} did not start; why is at the end of {log}")
