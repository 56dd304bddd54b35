"""Charts as SVG text, drawn on the server: no script, colours from the stylesheet, and a name for screen readers.

A chart only shows the shape; the numbers stand in a table beside it.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

WIDTH, HEIGHT = 240, 64
EDGE = 5
"""Room for the last point's dot and for the width of the line."""

BAR, GAP = 8, 2
HEIGHTS = {"passed": 8, "warned": 14, "failed": 20, "missing": 2}
"""Bars of a strip: they differ in height too, not in colour alone."""


def line_chart(points: Sequence[tuple[str, float]], name: str) -> Markup:
    """A line through values in order of time; the vertical range is that of the values.

    Args:
        points: what each value belongs to (shown when pointed at), and the value; at least one.
        name: what the chart shows; the range is added to it.
    """
    values = [value for _, value in points]
    low, high = min(values), max(values)
    across = (WIDTH - 2 * EDGE) / max(len(points) - 1, 1)
    places = [
        (
            EDGE + index * across if len(points) > 1 else WIDTH / 2,
            HEIGHT / 2 if high == low else EDGE + (high - value) / (high - low) * (HEIGHT - 2 * EDGE),
        )
        for index, value in enumerate(values)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    x, y = places[-1]
    label = f"{name}: from {values[0]:,} to {values[-1]:,} over {len(points)} releases"
    if low < min(values[0], values[-1]) or high > max(values[0], values[-1]):
        label += f", between {low:,} and {high:,}"
    return Markup(
        '<svg class="line-chart" role="img" viewBox="0 0 {width} {height}" preserveAspectRatio="none" '
        'aria-label="{label}"><title>{label}</title>'
        '<polyline points="{line}" vector-effect="non-scaling-stroke"/>'
        '<line class="dot" x1="{x}" y1="{y}" x2="{x}" y2="{y}" vector-effect="non-scaling-stroke"/></svg>'
    ).format(width=WIDTH, height=HEIGHT, label=label, line=line, x=f"{x:.1f}", y=f"{y:.1f}")


def strip(results: Sequence[str], name: str) -> Markup:
    """One bar per release: low when an expectation passed, higher when it warned, highest when it failed.

    Args:
        results: `passed`, `warned`, `failed` or `missing`; oldest first.
        name: what the results are of; how often each occurs is added to it.
    """
    told = ", ".join(f"{word} in {results.count(word)}" for word in HEIGHTS if word in results) or "no release"
    tallest, width = max(HEIGHTS.values()), max(len(results) * (BAR + GAP) - GAP, BAR)
    bars = Markup("").join(
        Markup('<path class="{word}" d="{bars}"/>').format(
            word=word,
            bars="".join(
                f"M{index * (BAR + GAP)} {tallest}v-{height}h{BAR}v{height}z"
                for index, result in enumerate(results)
                if result == word
            ),
        )
        for word, height in HEIGHTS.items()
        if word in results
    )
    return Markup(
        '<svg class="strip" role="img" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'aria-label="{label}">{bars}</svg>'
    ).format(width=width, height=tallest, label=f"{name}: {told}", bars=bars)
