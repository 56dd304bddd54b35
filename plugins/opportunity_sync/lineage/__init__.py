"""Column lineage: from which Dataverse columns each published column comes, read out of the SQL models themselves.

Two questions are kept apart. *Sources* are what a value is computed from: `amount` from the values and the state that
chooses between them. *Lookups* are what finds the row it is taken from: of `account_name` the customer, the company of
that contact and the merges. They are the conditions of outer joins, and what decides whether the joined relation has a
row. The conditions of inner joins and of `where` decide which rows there are at all, not what they hold; for a whole
relation they are `Lineage.rows`.

`sqlglot.lineage` follows values only, and one step of a recursion; so here sqlglot parses, and the walk is ours.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from opportunity_sync.errors import ConfigurationError
from opportunity_sync.history import VERSIONED
from opportunity_sync.lineage.origin import Lineage, Origin, Source
from opportunity_sync.lineage.query import Query, bind
from opportunity_sync.lineage.walk import Walk
from opportunity_sync.release import MAIN_TABLES
from opportunity_sync.tables import CORE, CORE_CHOICES, TYPED_LOOKUPS

if TYPE_CHECKING:
    from opportunity_sync.warehouse.models import Model

__all__ = ["Lineage", "Origin", "Source", "column_sources", "in_brief", "notes", "trace"]

log = logging.getLogger("opportunity_sync.lineage")

Additional = Mapping[str, Mapping[str, str]]
"""Per Dataverse table: names of additional columns in its source view, and the Dataverse columns behind them."""


BRIEF = 4
"""Columns that a comment names one by one."""


def column_sources(
    models: Mapping[str, Model], additional: Additional | None = None
) -> dict[str, dict[str, list[tuple[str, str]]]]:
    """The Dataverse columns, as (table, column), that each column of each published relation is computed from.

    The list is empty for constants and for what the pipeline says of itself. `trace` tells more.
    """
    return {
        name.partition(".")[2]: {
            column: [source[1:] for source in origin.sources if source.kind == "dataverse" and source.column != "*"]
            for column, origin in lineage.columns.items()
        }
        for name, lineage in trace(models, additional).items()
        if name.startswith(("marts.", "views.", "macros."))
    }


def trace(models: Mapping[str, Model], additional: Additional | None = None) -> dict[str, Lineage]:
    """The lineage of every model, by qualified name.

    Args:
        models: as `load_models` gives them, each after those it reads.
        additional: columns of `include/tables.yaml` beyond the core.

    Raises:
        ConfigurationError: a model reads a relation or column that does not exist, or it is not clear whose column.
    """
    views = {table: tuple(columns.items()) for table, columns in (additional or {}).items()}
    return _trace(tuple(models.values()), tuple(views.items()))


@cache
def _trace(
    models: tuple[Model, ...], additional: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
) -> dict[str, Lineage]:
    import sqlglot

    views = dict(additional)
    known = {f"source.{table}": _source_view(table, dict(views.get(table, ()))) for table in CORE}
    known["history.beginning"] = Lineage({"began_at": RELEASED})
    last = ("views", "macros")  # they read marts under the name these have in the published file
    for model in sorted(models, key=lambda model: last.index(model.schema) if model.schema in last else -1):
        query = bind(sqlglot.parse_one(model.sql, read="duckdb"))
        lineage = known[model.qualified] = _lineage(query, model, known)
        if model.schema == "marts":
            known |= _kept(model.name, lineage)
    return {model.qualified: known[model.qualified] for model in models}


def notes(models: Mapping[str, Model]) -> dict[str, dict[str, str]]:
    """What `in_brief` says of every column of every published table and view, for the comments in the file.

    A model that DuckDB understands and the lineage does not is no reason to stop a release: it is logged, and the
    comments say nothing of sources. The data dictionary is stricter.
    """
    try:
        traced = trace(models)
    except ConfigurationError as error:
        log.warning("lineage: the comments name no sources. %s", error)
        return {}
    return {
        name.partition(".")[2]: {column: in_brief(origin) for column, origin in lineage.columns.items()}
        for name, lineage in traced.items()
        if name.startswith(("marts.", "views."))
    }


def in_brief(origin: Origin) -> str:
    """The Dataverse columns of a value, to be put behind its description; their tables where they are many."""
    columns = [f"{table}.{column}" for kind, table, column in origin.sources if kind == "dataverse" and column != "*"]
    if len(columns) > BRIEF:
        columns = list(dict.fromkeys(column.partition(".")[0] for column in columns))
    return f" (from {', '.join(columns)})" if columns else ""


RELEASED = Origin((Source("variable", "", "released_at"),))


def _source_view(table: str, additional: Mapping[str, str]) -> Lineage:
    """The columns of view `source.<table>`, see `warehouse/views.py`."""
    names = {}
    for name in CORE[table]:
        names[name] = name
        if name in CORE_CHOICES:
            names[f"{name}_code"] = name
        if name in TYPED_LOOKUPS:
            names[f"{name}_type"] = name
    columns = {shown: Origin((Source("dataverse", table, name),)) for shown, name in (names | dict(additional)).items()}
    carried = {name: Origin((Source("batches", "raw", name),)) for name in ("_batch", "_extracted_at")}
    return Lineage(columns | carried, counted=(Source("dataverse", table, "*"),))


def _kept(mart: str, lineage: Lineage) -> dict[str, Lineage]:
    """What `history.py` keeps of a mart of earlier releases: the same columns and the times of these releases."""
    columns = dict(lineage.columns)
    if mart in VERSIONED:
        keys = {key: columns[key] for key in MAIN_TABLES[mart]}
        return {
            f"history.{mart}": Lineage(columns | {"valid_from": RELEASED, "valid_to": RELEASED}),
            f"history.{mart}_since": Lineage(keys | {"valid_from": RELEASED}),
        }
    if mart == "release":
        return {"history.releases": lineage}
    if mart == "expectation_results":
        return {f"history.{mart}": lineage}
    return {}


def _lineage(query: Query, model: Model, known: Mapping[str, Lineage]) -> Lineage:
    names = [name for select in query.branches for name, _ in Walk(model, known).selected(select)]
    columns = {}
    is_filled_later = all(str(select.node.args.get("where")).lower() == "where false" for select in query.branches)
    for name in dict.fromkeys(names):
        walk = Walk(model, known)
        walk.output(query, name)
        columns[name] = Origin((Source("pipeline", model.name, name),)) if is_filled_later else walk.origin()
    rows, counted = Walk(model, known), Walk(model, known)
    rows.presence(query)
    counted.count(query)
    return Lineage(columns, rows.origin().lookups, counted.origin().sources)
