"""How large a run of the benchmarks is, and how it says what it is doing."""

from __future__ import annotations

import time
from dataclasses import dataclass

from benchmarks.pages import PAGE_SIZE

_STARTED = time.monotonic()


@dataclass(frozen=True)
class Scale:
    """Sizes and repetitions; only `full` is what the targets speak of."""

    name: str
    extract_rows: int
    """Opportunities extracted by every competitor."""
    memory_rows: int
    """Opportunities of the extraction whose memory is compared with that of `extract_rows`."""
    opportunities: int
    """Opportunities of the organisation that is transformed; other tables in proportion."""
    extract_rounds: int
    """How often every competitor extracts; the fastest run counts."""
    build_rounds: int
    """How often everything is built; the fastest run counts."""
    hours: int
    """How many hourly runs follow a full build."""
    windows: int
    """Windows of the backfill that is read one by one and side by side."""
    window_pages: int
    """Pages of each window."""
    page_seconds: float
    """How long the service takes for one of these pages."""
    deals: int
    """Opportunities loaded into Marketo, with twice as many roles."""
    page_rounds: int
    """How often every page is asked for."""

    def __post_init__(self) -> None:
        if self.extract_rows % PAGE_SIZE or self.memory_rows % PAGE_SIZE:
            raise ValueError(f"the page server sends whole pages of {PAGE_SIZE} rows")


SCALES = {
    scale.name: scale
    for scale in (
        Scale(
            "small",
            extract_rows=20_000,
            memory_rows=60_000,
            opportunities=20_000,
            extract_rounds=1,
            build_rounds=1,
            hours=1,
            windows=8,
            window_pages=1,
            page_seconds=0.2,
            deals=5_000,
            page_rounds=3,
        ),
        Scale(
            "full",
            extract_rows=200_000,
            memory_rows=2_000_000,
            opportunities=2_000_000,
            extract_rounds=5,
            build_rounds=3,
            hours=3,
            windows=16,
            window_pages=6,
            page_seconds=1,
            deals=100_000,
            page_rounds=20,
        ),
    )
}


def say(text: str) -> None:
    """Report progress."""
    minutes, seconds = divmod(int(time.monotonic() - _STARTED), 60)
    print(f"{minutes:3d}:{seconds:02d}  {text}", flush=True)
