"""What a check finds, and how it sees that somebody is at work."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec

Severity = Literal["error", "warning", "note"]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not as it should be."""

    severity: Severity
    """`error`: lost or damaged. `warning`: left behind or incomplete. `note`: worth knowing, all is well."""
    where: str
    """Path below the data root."""
    what: str
    action: str


@contextmanager
def hold(lock_file: Path) -> Iterator[bool]:
    """Hold a lock for as long as the body runs, if nobody else does; gives whether that is so.

    Unlike `filelock` it creates no file: where there is none, nobody is at work. Readers of one lock file do not
    exclude each other, they exclude the one that works.
    """
    try:
        handle = os.open(lock_file, os.O_RDONLY)
    except FileNotFoundError:
        yield True
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(handle)  # and with it the lock


def is_held(lock_file: Path) -> bool:
    """Whether somebody holds a lock now."""
    with hold(lock_file) as is_free:
        return not is_free
