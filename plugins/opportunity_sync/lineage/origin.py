"""What the lineage of a column or relation is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Source(NamedTuple):
    """Something a value comes from."""

    kind: str
    """`dataverse`: a column. `variable`: a setting, or a fact about the run. `batches`: bookkeeping of raw batches.
    `pipeline`: a mart that the SQL only lays out, filled by a later step."""
    table: str
    """Dataverse table; or table of schema `meta`, or `raw` for what every extracted row carries; or the mart."""
    column: str
    """Column, or `*` where rows are counted; of a variable its name."""


@dataclass(frozen=True)
class Origin:
    """Where the values of a column come from; empty: they are constants of the model."""

    sources: tuple[Source, ...] = ()
    lookups: tuple[Source, ...] = ()
    """Without those that are sources already."""


@dataclass(frozen=True)
class Lineage:
    """The lineage of one relation."""

    columns: Mapping[str, Origin]
    rows: tuple[Source, ...] = ()
    """What decides which rows there are."""
    counted: tuple[Source, ...] = ()
    """The tables whose rows one counts by counting its rows, with column `*`."""
