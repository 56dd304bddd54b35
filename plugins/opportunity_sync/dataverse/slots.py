"""Slots: how many windows may be read at once, over all processes that share a data root.

Dataverse says in the header `x-ms-dop-hint` how many requests side by side suit the organisation's servers
(https://learn.microsoft.com/power-apps/developer/data-platform/send-parallel-requests). A slot is a lock file, which
the operating system frees when its holder dies.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

log = logging.getLogger("opportunity_sync.dataverse")

POLL_SECONDS = 0.25


@contextmanager
def request_slot(folder: Path, limit: int | None, *, sleep: Callable[[float], None] = time.sleep) -> Iterator[None]:
    """Hold one of `limit` slots while reading; waits until one is free. Without a limit there is nothing to hold.

    When the limit falls, reads that began under the higher one end first; new ones take the lower slots.
    """
    if limit is None:
        yield
        return
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    slots = [FileLock(folder / f"{number}.lock") for number in range(1, limit + 1)]
    started = time.monotonic()
    slot = _take(slots)
    if slot is None:
        log.info("Dynamics suggests at most %d requests at once, and as many windows are being read: waiting", limit)
    while slot is None:
        sleep(POLL_SECONDS)
        slot = _take(slots)
        if slot is not None:
            log.info("Got a slot after %.1f s", time.monotonic() - started)
    try:
        yield
    finally:
        slot.release()


def _take(slots: Sequence[BaseFileLock]) -> BaseFileLock | None:
    from filelock import Timeout

    for slot in slots:
        try:
            slot.acquire(timeout=0)
        except Timeout:
            continue
        return slot
    return None
