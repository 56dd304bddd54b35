"""The limits of a subscription, and what a test wants to know about the calls that came."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from datetime import date, datetime
from zoneinfo import ZoneInfo

from emulator.clock import Clock

from .errors import NOT_COUNTED, RequestError

WINDOW_SECONDS = 20.0
RESET_ZONE = ZoneInfo("America/Chicago")
"""The daily quota begins anew at midnight US Central."""


@dataclass
class CountedCall:
    """One call that came with a valid token."""

    at: float
    day: date
    counted: bool = True


@dataclass
class Limits:
    """Rate, concurrency and daily quota.

    Attributes:
        clock: The server's clock.
        calls_per_window: Calls allowed in any 20 s.
        concurrent_calls: Calls allowed at the same time.
        daily_quota: Calls allowed per day.
    """

    clock: Clock
    calls_per_window: int = 100
    concurrent_calls: int = 10
    daily_quota: int = 50_000
    used: Counter[date] = field(default_factory=Counter)
    errors: defaultdict[date, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    _window: deque[CountedCall] = field(default_factory=deque)
    _open: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def today(self) -> date:
        """The day of the quota."""
        return self.clock.now().astimezone(RESET_ZONE).date()

    def arrive(self) -> int:
        """A request came; returns how many are open now."""
        with self._lock:
            self._open += 1
            return self._open

    def leave(self) -> None:
        """A request was answered."""
        with self._lock:
            self._open -= 1

    def admit(self) -> CountedCall:
        """Count a call against the limits.

        Raises:
            RequestError: 607, 606 or 615; the refused call counts too.
        """
        with self._lock:
            call = CountedCall(self.clock.now().timestamp(), self.today())
            self.used[call.day] += 1
            while self._window and self._window[0].at <= call.at - WINDOW_SECONDS:
                self._window.popleft()
            self._window.append(call)
            if self.used[call.day] > self.daily_quota:
                raise RequestError(607)
            if sum(known.counted for known in self._window) > self.calls_per_window:
                raise RequestError(606, f"Max rate limit '{self.calls_per_window}' exceeded with in '20' secs")
            if self._open > self.concurrent_calls:
                raise RequestError(615)
            return call

    def note_error(self, code: int, call: CountedCall | None) -> None:
        """Remember a refused call; some codes give it back to quota and rate."""
        with self._lock:
            self.errors[self.today()][str(code)] += 1
            if call is not None and code in NOT_COUNTED and call.counted:
                call.counted = False
                self.used[call.day] -= 1

    def set_used(self, calls: int) -> None:
        """Say that so many calls were made today, as by other integrations."""
        with self._lock:
            self.used[self.today()] = calls

    def set(self, **limits: int) -> None:
        """Change limits by name.

        Raises:
            ValueError: There is no such limit.
        """
        for name, value in limits.items():
            if name not in ("calls_per_window", "concurrent_calls", "daily_quota"):
                raise ValueError(f"unknown limit {name!r}")
            setattr(self, name, value)


@dataclass
class Counters:
    """What came in since the last reset, measured when a request arrives: also refused ones, also without a token.

    Attributes:
        endpoints: Calls by method and address; a POST that stands for a GET counts as `GET`.
        records: Results by object and status: `opportunities created`.
        highest_in_window: Most requests that arrived in any 20 s.
        highest_open: Most requests open at the same time.
        writes: Calls to create, update or delete.
    """

    endpoints: Counter[str] = field(default_factory=Counter)
    records: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    highest_in_window: int = 0
    highest_open: int = 0
    writes: int = 0
    first_at: datetime | None = None
    last_at: datetime | None = None
    _arrivals: deque[datetime] = field(default_factory=deque, repr=False)

    def arrived(self, at: datetime, open_now: int) -> None:
        """A request came."""
        self.first_at, self.last_at = self.first_at or at, at
        while self._arrivals and (at - self._arrivals[0]).total_seconds() >= WINDOW_SECONDS:
            self._arrivals.popleft()
        self._arrivals.append(at)
        self.highest_in_window = max(self.highest_in_window, len(self._arrivals))
        self.highest_open = max(self.highest_open, open_now)

    @property
    def calls(self) -> int:
        """All requests."""
        return self.endpoints.total()

    def document(self) -> dict[str, object]:
        """For `/_control/counters`."""
        return {
            "calls": self.calls,
            "writes": self.writes,
            "highest_in_window": self.highest_in_window,
            "highest_open": self.highest_open,
            "first_at": self.first_at and self.first_at.isoformat(),
            "last_at": self.last_at and self.last_at.isoformat(),
            "endpoints": dict(self.endpoints),
            "records": dict(self.records),
            "codes": dict(self.codes),
        }
