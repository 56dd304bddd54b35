"""SQL models: one `select` per file, its path is its name, its comments are its descriptions, its order is inferred.

`include/sql/<schema>/<relation>.sql` with the schemas `staging`, `intermediate`, `marts` and `scope`; besides these
`views` and `macros`, which become views and table macros of the published file. A macro has one parameter, `moment`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from opportunity_sync.errors import ConfigurationError

SCHEMAS = ("staging", "intermediate", "marts", "scope", "views", "macros")


@dataclass(frozen=True)
class Model:
    """One relation of `include/sql/`."""

    schema: str
    name: str
    sql: str
    description: str
    """First comment of the file: what the relation is, and its grain."""
    columns: dict[str, str] = field(hash=False)
    """Column to description; a star has none."""
    depends_on: frozenset[str]
    """Qualified names of the relations it reads, for example `staging.contacts`."""

    @property
    def qualified(self) -> str:
        """`schema.name`."""
        return f"{self.schema}.{self.name}"


def load_models(folder: Path) -> dict[str, Model]:
    """All models by qualified name, in an order in which each comes after what it reads.

    Raises:
        ConfigurationError: a file is not one documented `select`, or models read each other in a circle.
    """
    found = {
        model.qualified: model
        for schema in SCHEMAS
        for model in (_load(path, schema) for path in sorted((folder / schema).glob("*.sql")))
    }
    graph = {name: model.depends_on & found.keys() for name, model in found.items()}
    return {name: found[name] for name in TopologicalSorter(graph).static_order()}


def in_schema(models: dict[str, Model], schema: str) -> list[Model]:
    """The models of one schema, in dependency order."""
    return [model for model in models.values() if model.schema == schema]


def _load(path: Path, schema: str) -> Model:
    return _parse(path, schema, path.read_text(encoding="utf-8"))


@cache
def _parse(path: Path, schema: str, text: str) -> Model:
    import sqlglot
    from sqlglot import exp

    try:
        statement = sqlglot.parse_one(text, read="duckdb")
    except sqlglot.errors.ParseError as error:
        raise _problem(path, f"is not valid SQL: {error}") from error
    if not isinstance(statement, exp.Query):
        raise _problem(path, "is not one select")
    return Model(
        schema=schema,
        name=path.stem,
        sql=text,
        description=_leading_comment(path, text),
        columns={
            selected.alias_or_name: " ".join(" ".join(selected.comments or []).split())
            for selected in statement.selects
            if selected.alias_or_name != "*"
        },
        depends_on=frozenset(f"{table.db}.{table.name}" for table in statement.find_all(exp.Table) if table.db),
    )


def _leading_comment(path: Path, text: str) -> str:
    lines = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    if not lines:
        raise _problem(path, "does not begin with a comment that says what the relation is and its grain")
    return " ".join(lines)


def _problem(path: Path, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"Model {path} {what}", state="Nothing was built", action="Correct the file and run again"
    )
