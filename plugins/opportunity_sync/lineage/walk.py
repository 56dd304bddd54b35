"""From one column of a model, or from its rows, to all they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from opportunity_sync.errors import ConfigurationError
from opportunity_sync.lineage.origin import Lineage, Origin, Source
from opportunity_sync.lineage.query import Query, Select, bind

if TYPE_CHECKING:
    from sqlglot import exp

    from opportunity_sync.warehouse.models import Model


ANY = "columns(*)"
"""Stands for every column of a relation whose columns are not known here: bookkeeping of the warehouse."""


class Walk:
    """A walk from one column, or from the presence of rows, to all they come from; it takes every way once."""

    def __init__(self, model: Model, known: Mapping[str, Lineage]) -> None:
        self.model, self.known = model, known
        self.sources: dict[Source, None] = {}
        self.lookups: dict[Source, None] = {}
        self.taken: set[tuple[object, str, bool]] = set()

    def origin(self) -> Origin:
        """What was found."""
        return Origin(tuple(self.sources), tuple(each for each in self.lookups if each not in self.sources))

    def output(self, query: Query | str, name: str, *, is_lookup: bool = False) -> None:
        """Go on from a column of a relation."""
        from sqlglot import exp

        if isinstance(query, str):
            columns = self._outside(query).columns
            if name not in columns and ANY not in columns:
                raise self._problem(f"column {name} of {query}")
            origin = columns.get(name) or Origin((Source("batches", query.partition(".")[2], name),))
            (self.lookups if is_lookup else self.sources).update(dict.fromkeys(origin.sources))
            self.lookups.update(dict.fromkeys(origin.lookups))
        elif self._is_new(query, name, is_lookup):
            first = [each for each, _ in self.selected(query.branches[0])] if query.branches else []
            for select in query.branches:
                selected = self.selected(select)
                if not query.is_by_name:
                    selected = [(each, value) for each, (_, value) in zip(first, selected, strict=True)]
                for each, value in selected:
                    if each not in (name, ANY):
                        continue
                    if each == ANY and isinstance(value, exp.Column):
                        value = exp.column(name, value.table)
                    self.expression(select, value, is_lookup=is_lookup)
                    if query in select.sources.values() and not _is_carried(value, name):
                        self._lookup(select, select.conditions)

    def presence(self, query: Query | str) -> None:
        """Go on from what decides which rows a relation has."""
        if isinstance(query, str):
            self.lookups.update(dict.fromkeys(self._outside(query).rows))
        elif self._is_new(query, "", True):
            for select in query.branches:
                self._lookup(select, select.conditions)
                for alias in select.deciding:
                    self.presence(select.sources[alias])

    def count(self, query: Query | str, *, is_lookup: bool = False) -> None:
        """Go on from the number of rows of a relation."""
        if isinstance(query, str):
            (self.lookups if is_lookup else self.sources).update(dict.fromkeys(self._outside(query).counted))
        elif self._is_new(query, "*", is_lookup):
            for select in query.branches:
                for alias in select.driving:
                    self.count(select.sources[alias], is_lookup=is_lookup)

    def expression(self, select: Select, node: exp.Expr, *, is_lookup: bool) -> None:
        """Go on from everything that an expression mentions."""
        from sqlglot import exp

        for each in node.walk(bfs=False, prune=lambda found: isinstance(found, exp.Query)):
            if isinstance(each, exp.Query):
                nested = bind(each, select.environment, outer=select)
                for name in self._names(nested):
                    self.output(nested, name, is_lookup=is_lookup)
                self.presence(nested)
            elif isinstance(each, exp.Column):
                self._column(select, each, is_lookup=is_lookup)
            elif isinstance(each, exp.Count) and isinstance(each.this, exp.Star):
                for alias in select.driving:
                    self.count(select.sources[alias], is_lookup=is_lookup)
            elif isinstance(each, exp.Anonymous) and each.name.lower() == "getvariable":
                variable = Source("variable", "", each.expressions[0].name)
                (self.lookups if is_lookup else self.sources)[variable] = None

    def selected(self, select: Select) -> list[tuple[str, exp.Expr]]:
        """Name and expression of every column of a select, stars written out."""
        from sqlglot import exp

        if select.columns is not None:
            return select.columns
        found: list[tuple[str, exp.Expr]] = []
        for each in select.node.expressions:
            star = each.this if isinstance(each, (exp.Columns, exp.Column)) else each
            if not isinstance(star, exp.Star):
                found.append((each.alias_or_name, each.unalias()))
                continue
            left_out = {column.name for column in star.args.get("except_") or []}
            replaced = {column.alias: column.this for column in star.args.get("replace") or []}
            for alias, source in select.sources.items():
                if not isinstance(each, exp.Column) or each.table == alias:
                    names = [name for name in self._names(source) if name not in left_out]
                    found += [(name, replaced.get(name) or exp.column(name, alias)) for name in names]
        select.columns = found
        return found

    def _column(self, select: Select, column: exp.Column, *, is_lookup: bool) -> None:
        if self.model.schema == "macros" and column.name == "moment":
            return
        alias = column.table or self._holder(select, column.name)
        if not alias:
            if self._is_new(select, f"={column.name}", is_lookup):
                (aliased,) = (each.this for each in select.node.expressions if each.alias == column.name)
                self.expression(select, aliased, is_lookup=is_lookup)
            return
        if alias not in select.sources:
            if select.outer is None:
                raise self._problem(f"relation {alias}")
            self._column(select.outer, column, is_lookup=is_lookup)
            return
        self.output(select.sources[alias], column.name, is_lookup=is_lookup)
        if alias in select.found_by and self._is_new(select, alias, True):
            self._lookup(select, select.found_by[alias])
            self.presence(select.sources[alias])

    def _lookup(self, select: Select, conditions: list[exp.Expr]) -> None:
        for condition in conditions:
            self.expression(select, condition, is_lookup=True)

    def _holder(self, select: Select, column: str) -> str:
        """The alias that a column without one belongs to; empty when it is another column of the same select."""
        holders = [alias for alias, source in select.sources.items() if {column, ANY} & {*self._names(source)}]
        if not holders and column in [each.alias for each in select.node.expressions]:
            return ""
        if len(holders) == 1 or len(select.sources) == 1:
            return next(iter(holders or select.sources))
        raise self._problem(f"column {column} of {' or '.join(holders or select.sources) or 'nothing'}")

    def _names(self, query: Query | str) -> list[str]:
        if isinstance(query, str):
            return list(self._outside(query).columns)
        return [*query.constants, *(name for select in query.branches[:1] for name, _ in self.selected(select))]

    def _outside(self, name: str) -> Lineage:
        if name.startswith("meta."):
            return Lineage({ANY: Origin()})
        published = name.removeprefix("main.")
        for candidate in (name, f"marts.{published}", f"views.{published}"):
            if candidate in self.known:
                return self.known[candidate]
        raise self._problem(f"relation {name}")

    def _is_new(self, query: object, name: str, is_lookup: bool) -> bool:
        way = (query, name, is_lookup)
        is_new = way not in self.taken
        self.taken.add(way)
        return is_new

    def _problem(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"Model {self.model.qualified} reads {what}, and it is not clear where that comes from",
            state="The lineage of the models was not found",
            action="Correct the file, or write the relation before the column",
        )


def _is_carried(value: exp.Expr, name: str) -> bool:
    """True for a column that a step of a recursion hands on as it is."""
    return value.name == name and value.key == "column"
