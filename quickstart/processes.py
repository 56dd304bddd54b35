"""Start processes that can be found again, and end them: also orphans whose parent was killed.

Every process started here carries a marker in its environment, and so does every process that it starts. Ending looks
for the marker, never for a name, so nothing else can be hit; and it needs no file of process ids that could go stale.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import psutil

MARKER = "OPPORTUNITY_SYNC_STARTED_BY"
"""Environment variable that names the owner of a process: `run:<data root>` or `up:<data root>`."""


def start(
    command: Sequence[str],
    *,
    owner: str,
    environment: Mapping[str, str],
    folder: Path,
    output: IO[bytes] | int,
    errors: IO[bytes] | int = subprocess.STDOUT,
    pass_fds: tuple[int, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start a process in a session of its own (Ctrl-C reaches it only through us), marked as `owner`'s."""
    return subprocess.Popen(
        command,
        # SPT_NOENV: without it the titles that Airflow gives its processes overwrite the environment others can read.
        env={**environment, MARKER: owner, "SPT_NOENV": "1"},
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        start_new_session=True,
        pass_fds=pass_fds,
    )


def running(owner: str) -> list[psutil.Process]:
    """Every live process marked as `owner`'s, except the calling one."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            if process.environ().get(MARKER) == owner and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it has ended meanwhile, or it is another user's and therefore none of ours
    return found


def end(owner: str, *, patience_seconds: float = 10) -> int:
    """End every process marked as `owner`'s: politely, then by force after `patience_seconds`.

    Returns:
        How many processes were ended.
    """
    ended: set[psutil.Process] = set()
    deadline = time.monotonic() + patience_seconds
    while processes := running(owner):
        force = time.monotonic() > deadline
        for process in processes:
            if process not in ended or force:
                _signal(process, signal.SIGKILL if force else signal.SIGTERM)
        ended.update(processes)
        psutil.wait_procs(processes, timeout=0.5)
    return len(ended)


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
