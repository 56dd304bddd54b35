"""How many calls an instance gets: within 20 seconds, at once, and per day.

Marketo takes 100 calls in any 20 seconds and 10 at once from all integrations of an instance together
(https://experienceleague.adobe.com/en/docs/marketo-developer/marketo/rest/rest-api). A permit to call is given back 20
seconds after the *answer*, not after the call was sent: however long a call is on its way, no more calls than allowed
ever arrive there within 20 seconds.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache

from opportunity_sync.marketo.errors import quota_day, quota_used_up

WINDOW_SECONDS = 20.0
CALLS_PER_20_SECONDS = 50
CONCURRENT_CALLS = 5
"""Half of what Marketo takes: other integrations need calls too."""
MOST_CALLS_PER_20_SECONDS = 100
MOST_CALLS_AT_ONCE = 10
DAILY_CALLS = 45_000
"""Of the 50,000 that most subscriptions have."""
CALLS_PER_READING = 200
"""The quota is everybody's, so what is left of it is asked for again after so many calls of ours."""


class CallLimits:
    """Permits to call, shared by all threads.

    Args:
        calls_per_20_seconds: calls that arrive within any 20 seconds.
        concurrent_calls: calls on their way at once.
        clock: seconds, growing.
        sleep: waits that many seconds.
        window_seconds: another window than Marketo's, for tests.

    Raises:
        ValueError: a number is beyond what Marketo takes.
    """

    def __init__(
        self,
        calls_per_20_seconds: int = CALLS_PER_20_SECONDS,
        concurrent_calls: int = CONCURRENT_CALLS,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        window_seconds: float = WINDOW_SECONDS,
    ) -> None:
        if not 1 <= calls_per_20_seconds <= MOST_CALLS_PER_20_SECONDS:
            raise ValueError(
                f"calls_per_20_seconds is {calls_per_20_seconds}; allowed: 1 to {MOST_CALLS_PER_20_SECONDS}"
            )
        if not 1 <= concurrent_calls <= MOST_CALLS_AT_ONCE:
            raise ValueError(f"concurrent_calls is {concurrent_calls}; allowed: 1 to {MOST_CALLS_AT_ONCE}")
        self._clock, self._sleep, self._window = clock, sleep, window_seconds
        self._concurrent = threading.BoundedSemaphore(concurrent_calls)
        self._free_at: queue.PriorityQueue[float] = queue.PriorityQueue()
        for _ in range(calls_per_20_seconds):
            self._free_at.put(float("-inf"))

    @contextmanager
    def call(self) -> Iterator[None]:
        """Wait for a permit, and hold it while calling."""
        with self._concurrent:
            wait = self._free_at.get() - self._clock()
            try:
                if wait > 0:
                    self._sleep(wait)
                yield
            finally:
                self._free_at.put(self._clock() + self._window)


@cache
def limits_of(
    base_url: str, calls_per_20_seconds: int = CALLS_PER_20_SECONDS, concurrent_calls: int = CONCURRENT_CALLS
) -> CallLimits:
    """The limits of an instance, the same object for everyone in this process.

    Raises:
        ValueError: a number is beyond what Marketo takes.
    """
    return CallLimits(calls_per_20_seconds, concurrent_calls)


class DailyBudget:
    """Stops calling before the instance's quota of the day is used up.

    Args:
        daily_calls: how many all integrations together have made when we stop.
        read_usage: asks Marketo how many calls were made today.
        now: the time, with its zone.
    """

    def __init__(
        self,
        daily_calls: int,
        read_usage: Callable[[], int],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._daily_calls, self._read_usage, self._now = daily_calls, read_usage, now
        self._lock = threading.Lock()
        self._day = ""
        self._used = 0
        self._since_reading = 0

    def spend(self) -> None:
        """Count a call that is about to be made.

        Raises:
            QuotaUsedUpError: there is none left today; nothing may be sent.
            MarketoError: the usage could not be read.
        """
        with self._lock:
            now = self._now()
            if self._day != quota_day(now) or self._since_reading >= CALLS_PER_READING:
                self._used, self._since_reading, self._day = self._read_usage(), 0, quota_day(now)
            if self._used >= self._daily_calls:
                raise quota_used_up(
                    f"The instance has had {self._used} calls today, and daily_calls is {self._daily_calls}",
                    now=now,
                )
            self._used += 1
            self._since_reading += 1
