"""What templates are given: filters, charts, and pages that are files of their own."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from jinja2 import UndefinedError

from opportunity_sync.pages import MISSING, age, moment, number, render, shown
from opportunity_sync.pages.charts import line_chart, strip
from tests.small_organisation import settings_for


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (timedelta(seconds=-3), "0 minutes"),
        (timedelta(seconds=61), "1 minute"),
        (timedelta(minutes=119), "119 minutes"),
        (timedelta(minutes=120), "2 hours"),
        (timedelta(hours=47, minutes=59), "47 hours"),
        (timedelta(hours=48), "2 days"),
        (None, MISSING),
    ],
)
def test_an_age_is_told_in_the_largest_unit_that_says_it_well(value: timedelta | None, text: str) -> None:
    assert age(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, MISSING),
        (True, "yes"),
        (Decimal("1234567.5000"), "1,234,567.50"),
        (date(2026, 9, 1), "2026-09-01"),
        (datetime(2026, 9, 1, 12, 30, 59), "2026-09-01 12:30 UTC"),  # noqa: DTZ001 (as DuckDB gives it)
        ("<b>", "<b>"),
        (0, "0"),
    ],
)
def test_published_values_are_shown_as_people_read_them(value: object, text: str) -> None:
    assert shown(value) == text


def test_times_with_a_zone_are_shown_in_utc() -> None:
    zone = timezone(timedelta(hours=2))
    assert moment(datetime(2026, 9, 1, 1, 30, tzinfo=zone)) == "2026-08-31 23:30 UTC"
    assert number(1234567) == "1,234,567"


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 (our own)


def test_a_line_chart_is_named_with_its_range_and_stays_within_its_box() -> None:
    chart = line_chart([("a", 10), ("b", 3), ("c", 12)], 'Rows of "<x>"')
    svg = parsed(chart)
    assert svg.get("role") == "img"
    assert svg.get("aria-label") == 'Rows of "<x>": from 10 to 12 over 3 releases, between 3 and 12'
    line = svg.find("polyline")
    assert line is not None
    points = [tuple(map(float, point.split(","))) for point in str(line.get("points")).split()]
    assert [x for x, _ in points] == sorted({x for x, _ in points})
    _, _, width, height = map(float, str(svg.get("viewBox")).split())
    assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
    lowest, highest = points[1][1], points[2][1]
    assert highest < points[0][1] < lowest  # y grows downwards


@pytest.mark.parametrize("values", [[5], [5, 5, 5], [0, 0]])
def test_a_line_chart_of_one_value_or_of_equal_values_is_a_flat_line(values: list[int]) -> None:
    line = parsed(line_chart([("", value) for value in values], "Rows")).find("polyline")
    assert line is not None
    assert len({point.split(",")[1] for point in str(line.get("points")).split()}) == 1


def test_a_strip_has_a_bar_per_release_whose_height_tells_results_apart() -> None:
    svg = parsed(strip(["passed", "warned", "failed", "missing", "passed"], "Over time"))
    assert svg.get("aria-label") == "Over time: passed in 2, warned in 1, failed in 1, missing in 1"
    bars = {path.get("class"): str(path.get("d")).split("M")[1:] for path in svg.findall("path")}
    assert {word: len(found) for word, found in bars.items()} == {"passed": 2, "warned": 1, "failed": 1, "missing": 1}
    assert len({found[0].split("v-")[1].split("h")[0] for found in bars.values()}) == 4


def test_a_page_without_an_address_carries_its_style_and_reaches_for_nothing(tmp_path: Path) -> None:
    text = render(settings_for(tmp_path), "message.html", heading="A < B", text="C & D")
    assert "A &lt; B" in text
    assert "<style>" in text
    assert ".verdict" in text
    assert "href=" not in text.replace('href="#content"', "")
    assert "src=" not in text


def test_a_fact_that_a_template_needs_and_does_not_get_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UndefinedError, match="text"):
        render(settings_for(tmp_path), "message.html", heading="A")
