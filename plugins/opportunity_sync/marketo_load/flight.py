"""Keep several calls to Marketo in the air, and settle each answer in the caller's thread, which owns the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

Sent = TypeVar("Sent")
Answered = TypeVar("Answered")


def run_calls(
    sent: Iterable[Sent],
    call: Callable[[Sent], Answered],
    settle: Callable[[Sent, Answered], None],
    *,
    at_once: int,
) -> None:
    """Make a call for each of `sent`, at most `at_once` at a time, and settle the answers as they come.

    The next item is taken only when a call may start, so nothing piles up in memory. When a call fails, or `sent` ends
    with an error, no further call starts, those in the air are settled, and the first error is raised.

    Args:
        sent: what to send, taken one by one in the caller's thread.
        call: makes one call, in a thread of its own.
        settle: notes one answer, in the caller's thread.
        at_once: how many calls may be in the air.
    """
    flying: dict[Future[Answered], Sent] = {}
    failure: BaseException | None = None

    def land(*, all_of_them: bool) -> None:
        nonlocal failure
        while flying and (all_of_them or len(flying) >= at_once):
            landed, _ = wait(flying, return_when=FIRST_COMPLETED)
            for future in landed:
                item = flying.pop(future)
                if (error := future.exception()) is not None:
                    failure = failure or error
                else:
                    settle(item, future.result())

    with ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="marketo") as pool:
        try:
            for item in sent:
                flying[pool.submit(call, item)] = item
                land(all_of_them=False)
                if failure is not None:
                    break
        finally:
            land(all_of_them=True)
    if failure is not None:
        raise failure
