"""Pages for people: HTML made on the server from the templates in `include/pages/`, without JavaScript.

`app.py` serves them in Airflow's UI, where they link `style.css`. A page that is a file of its own is rendered the same
way without `root`: it then carries the style inside and needs nothing else.

    render(settings, "quality_report.html", release=release, ...)

A template begins with `{% extends "base.html" %}` and fills the blocks `title` and `content`. Whatever is put between
`{{ }}` is escaped. Charts come from `charts.py`: `{{ line_chart(points, "Rows of accounts") }}`.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from opportunity_sync.expectations import result_word
from opportunity_sync.expectations.words import in_words
from opportunity_sync.pages import charts
from opportunity_sync.settings import Settings

MISSING = "\N{EN DASH}"
"""What a page shows for NULL."""


def render(settings: Settings, template: str, **facts: Any) -> str:
    """Render a template of `include/pages/`.

    Args:
        settings: say where `include/` is.
        template: file name.
        facts: what the template shows. `root` is the address the pages are served under; without it the page carries
            its style inside and has no navigation.
    """
    return _environment(settings.include / "pages").get_template(template).render(**facts)


def style(settings: Settings) -> str:
    """The one stylesheet."""
    return (settings.include / "pages" / "style.css").read_text(encoding="utf-8")


@cache
def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "moment": moment, "age": age, "shown": shown}
    environment.globals |= {
        "line_chart": charts.line_chart,
        "strip": charts.strip,
        "in_words": in_words,
        "result_word": result_word,
        "embedded_style": lambda: Markup((folder / "style.css").read_text(encoding="utf-8")),  # noqa: S704 (our own)
    }
    return environment


def number(value: int | float | None) -> str:
    """`1234567` as `1,234,567`."""
    return MISSING if value is None else f"{value:,}"


def moment(value: datetime | None) -> str:
    """A point in time to the minute, in UTC; naive ones are UTC."""
    if value is None:
        return MISSING
    return f"{value.astimezone(UTC) if value.tzinfo else value:%Y-%m-%d %H:%M} UTC"


def age(value: timedelta | None) -> str:
    """How long ago, in the largest unit that says it well: `12 minutes`, `3 hours`, `2 days`."""
    if value is None:
        return MISSING
    minutes = max(int(value.total_seconds() // 60), 0)
    for unit, size, least in (("day", 1440, 2880), ("hour", 60, 120), ("minute", 1, 0)):
        if minutes >= least:
            count = minutes // size
            return f"{count} {unit}{'' if count == 1 else 's'}"
    raise AssertionError("every age is at least 0 minutes")


def shown(value: object) -> str:
    """Any published value as a person reads it."""
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:,.2f}"
    return str(value)
