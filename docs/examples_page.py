"""The page that shows every question in `examples/sql/` with its SQL and its answer."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from opportunity_sync.settings import PROJECT

FOLDER = PROJECT / "examples" / "sql"
SHOWN_ROWS = 10

CHAPTERS = {
    "Pipeline": (
        "pipeline_by_stage_and_account",
        "pipeline_by_close_month",
        "pipeline_by_currency",
        "stale_open_deals",
    ),
    "Results": ("won_and_lost_by_quarter", "win_rate_by_stakeholder_role"),
    "People": (
        "open_deals_without_contacts",
        "single_threaded_deals",
        "contacts_in_most_open_deals",
        "contacts_with_several_roles",
    ),
    "Accounts": ("accounts_derived_through_contacts", "deals_moved_by_merges"),
    "Time": (
        "what_changed_this_week",
        "pipeline_as_of_last_quarter_end",
        "pipeline_over_time",
        "slipped_close_dates",
    ),
    "Trust": ("how_fresh_is_this", "warnings_of_this_release", "missing_references"),
}
"""Every example once, in the order of the page."""

INTRODUCTION = """# Examples

Questions that people ask about opportunities, as SQL for `opportunities.duckdb`, each with the answer it gives. The
files are in [examples/sql](../examples/sql): open one in any DuckDB client, version 1.2 or later, and run it.
[How to open the file](opening-the-file.md) says how, and [the notebook](notebook.md) draws some of the answers.

The answers below are those of an invented organisation ([how it was made](example_organisation.py)) that was published
once a week from 23 March to 15 June 2026. Every date counts from the release, `(select released_at from release)`, not
from the present day: an old file gives its old answers again. Of long answers the first rows are shown.
"""


@dataclass(frozen=True)
class Example:
    """One file of `examples/sql/`."""

    name: str
    question: str
    reading: str
    """How to read the answer."""
    sql: str
    """The select itself."""


def load_example(name: str) -> Example:
    """Read one file: comment lines (the question first), then one select."""
    lines = (FOLDER / f"{name}.sql").read_text(encoding="utf-8").splitlines()
    comments = [line.removeprefix("-- ") for line in lines if line.startswith("--")]
    select = "\n".join(lines[len(comments) :])
    return Example(name=name, question=comments[0], reading=" ".join(comments[1:]), sql=select)


def examples_page(database: Path) -> str:
    """The whole page, with the answers that a published file gives."""
    parts = [INTRODUCTION]
    with duckdb.connect(str(database), read_only=True) as connection:
        for chapter, names in CHAPTERS.items():
            parts.append(f"## {chapter}\n")
            for name in names:
                example = load_example(name)
                answer = connection.execute(example.sql)
                columns = [(column[0], str(column[1])) for column in answer.description or ()]
                parts.append(f"### {example.question}\n\n{example.reading}\n")
                parts.append(f"[{name}.sql](../examples/sql/{name}.sql)\n\n```sql\n{example.sql}\n```\n")
                parts.append(_table(columns, answer.fetchall()))
    return "\n".join(parts)


def _table(columns: Sequence[tuple[str, str]], rows: Sequence[tuple[Any, ...]]) -> str:
    is_number = [kind.startswith(("DECIMAL", "DOUBLE")) or "INT" in kind for _, kind in columns]
    lines = [
        "| " + " | ".join(name for name, _ in columns) + " |",
        "|" + "|".join("---:" if number else "---" for number in is_number) + "|",
        *("| " + " | ".join(map(_cell, row)) + " |" for row in rows[:SHOWN_ROWS]),
    ]
    if len(rows) > SHOWN_ROWS:
        lines.append(f"\n{SHOWN_ROWS} of {len(rows)} rows.")
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return f"{value:,.2f}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return html.escape(str(value), quote=False).replace("|", "\\|")
