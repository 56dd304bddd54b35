"""A model's query with its names bound: which relation every alias stands for, and what its joins do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlglot import exp


@dataclass(eq=False)
class Query:
    """A query: the branches of a union, or one. Without any it is a list of constants with these names."""

    branches: list[Select] = field(default_factory=list)
    is_by_name: bool = False
    constants: tuple[str, ...] = ()


@dataclass(eq=False)
class Select:
    """One `select` with the relations it reads, by alias: a query, or the name of a relation outside the model."""

    node: exp.Expr
    environment: Mapping[str, Query]
    outer: Select | None
    """The one whose expression it is in."""
    sources: dict[str, Query | str] = field(default_factory=dict)
    driving: list[str] = field(default_factory=list)
    """Aliases of relations that each bring rows of their own."""
    deciding: list[str] = field(default_factory=list)
    """Aliases of relations without a row of which there is none."""
    found_by: dict[str, list[exp.Expr]] = field(default_factory=dict)
    """Of relations that may have no row to another one's: the conditions that find it."""
    conditions: list[exp.Expr] = field(default_factory=list)
    """What decides which rows there are."""
    columns: list[tuple[str, exp.Expr]] | None = None
    """Name and expression of every column, once they were asked for."""


def bind(
    node: exp.Expr,
    environment: Mapping[str, Query] | None = None,
    *,
    outer: Select | None = None,
    into: Query | None = None,
) -> Query:
    """Find out which relation every alias of a query stands for."""
    from sqlglot import exp

    query, inner = into or Query(), dict(environment or {})
    for cte in node.ctes if isinstance(node, exp.Query) else []:
        inner[cte.alias] = Query()  # there before it is bound, because a recursive one reads itself
        bind(cte.this, inner, outer=outer, into=inner[cte.alias])
    if isinstance(node, exp.Values):
        query.constants = tuple(node.alias_column_names)
    elif isinstance(node, exp.Subquery):
        bind(node.this, inner, outer=outer, into=query)
    elif isinstance(node, exp.SetOperation):
        query.is_by_name = bool(node.args.get("by_name"))
        for side in (node.left, node.right):
            query.branches += bind(side, inner, outer=outer).branches
    else:
        query.branches.append(_bind_select(node, inner, outer))
    return query


def _bind_select(node: exp.Expr, environment: Mapping[str, Query], outer: Select | None) -> Select:
    from sqlglot import exp

    select = Select(node, environment, outer)
    for source in (node.args.get("from_"), *(node.args.get("joins") or [])):
        if source is None:
            continue
        name, earlier = source.this.alias_or_name, list(select.sources)
        using = [exp.column(key.name, alias) for key in source.args.get("using") or [] for alias in (*earlier, name)]
        conditions = [*([source.args["on"]] if source.args.get("on") else []), *using]
        side = source.side if isinstance(source, exp.Join) else ""
        for alias in earlier if side in ("RIGHT", "FULL") else []:
            select.found_by[alias] = [*select.found_by.get(alias, []), *conditions]
        if side in ("LEFT", "FULL"):
            select.found_by[name] = conditions
        if side == "RIGHT":
            select.driving, select.deciding = [], []
        if side in ("RIGHT", "FULL") or not earlier:
            select.driving.append(name)
        if side != "LEFT":
            select.deciding.append(name)
        if side in ("", "FULL"):
            select.conditions += conditions
        select.sources[name] = _named(source.this, environment, outer)
    select.conditions += [node.args[clause] for clause in ("where", "qualify", "having") if node.args.get(clause)]
    return select


def _named(table: exp.Expr, environment: Mapping[str, Query], outer: Select | None) -> Query | str:
    from sqlglot import exp

    if isinstance(table, (exp.Query, exp.Values)):
        return bind(table, environment, outer=outer)
    if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier):
        return table.sql(dialect="duckdb")  # such as a table function, which nobody knows outside either
    if not table.db:
        return environment.get(table.name, table.name)
    return f"{table.db}.{table.name}"
