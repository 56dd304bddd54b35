"""The server's clock: real time plus an offset that tests may advance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


class Clock:
    """UTC now, movable forward."""

    def __init__(self) -> None:
        self._offset = timedelta()

    def now(self) -> datetime:
        """Current time, aware, UTC."""
        return datetime.now(UTC) + self._offset

    def advance(self, seconds: float) -> None:
        """Move the clock by this many seconds."""
        self._offset += timedelta(seconds=seconds)

    def stamp(self) -> str:
        """Now as Dataverse writes a DateTime: whole seconds, `Z`."""
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")
