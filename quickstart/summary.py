"""What a run has brought: read from the published file, as any analyst could."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from opportunity_sync.settings import Settings

EXAMPLE = """\
select o.name as opportunity, o.state, o.amount, o.account_name as account, c.full_name as contact, r.role
from opportunities o
left join opportunity_contact_roles r using (opportunity_id)
left join contacts c using (contact_id)
order by o.amount desc nulls last, o.name, c.full_name, r.role
limit 5"""


def show_summary(console: Console, file: Path) -> None:
    """Print counts, rules, expectations and one query of a published file."""
    import duckdb

    with duckdb.connect(str(file), read_only=True) as connection:
        tables = connection.execute(
            "select table_name from duckdb_tables() where schema_name = 'main' order by table_name"
        ).fetchall()
        counts = [(name, *_one(connection, f'select count(*) from "{name}"')) for (name,) in tables]
        rules = connection.execute(
            "select account_rule, count(*) from opportunities group by all order by 2 desc, 1"
        ).fetchall()
        roles = connection.execute(
            "select role_source, role, count(*) from opportunity_contact_roles group by all order by 1, 3 desc, 2"
        ).fetchall()
        passed, failed = _one(
            connection, "select count(*) filter (success), count(*) filter (not success) from expectation_results"
        )
        failures = connection.execute(
            "select severity, relation, expectation, column_name, unexpected_count from expectation_results "
            "where not success order by all"
        ).fetchall()
        example = connection.execute(EXAMPLE)
        columns = [column[0] for column in example.description or []]
        rows = example.fetchall()
    console.print()
    console.print(_table("Published", ("table", "rows"), counts))
    console.print(_table("What decided each opportunity's account", ("account_rule", "opportunities"), rules))
    console.print(_table("Contact roles", ("role_source", "role", "rows"), roles))
    console.print(f"[bold]Expectations[/]: {passed} passed, {failed} failed" + (" (warnings)" if failed else ""))
    for severity, relation, expectation, column, count in failures:
        where = f"{relation}.{column}" if column else relation
        console.print(f"  {severity}: {where}: {expectation}" + (f" ({count} rows)" if count else ""), highlight=False)
    console.print(f"\n[bold]File[/]: {file}", highlight=False)
    console.print("\n[bold]Try it[/]: any DuckDB client will do, for example this query")
    console.print(EXAMPLE, style="cyan", highlight=False)
    console.print(_table(None, columns, rows, widest=24))


def show_marketo(console: Console, settings: Settings) -> None:
    """Print what Marketo holds of the release, as far as the ledger knows."""
    import duckdb

    for file in sorted((settings.data / "marketo").glob("*/ledger.duckdb")):
        with duckdb.connect(str(file), read_only=True) as connection:
            held = connection.execute(
                "select object, count(*) filter (state = 'confirmed'), count(*) filter (state = 'rejected') "
                "from records group by object order by object"
            ).fetchall()
            (waiting,) = _one(connection, "select count(*) from leads where lead_id is null")
        console.print()
        console.print(_table("In Marketo", ("object", "confirmed", "rejected"), held))
        console.print(f"{waiting} contacts have no lead there; their roles wait for one", highlight=False)


def show_changes(console: Console, made: list[str], changes: Mapping[str, Mapping[str, int]]) -> None:
    """Print what was changed in the organisation and what that changed in the published tables."""
    console.print("\n[bold]Changed in the organisation before this run[/]")
    for sentence in made:
        console.print(f"  {sentence}", markup=False, highlight=False)
    rows = [
        (table, counts["inserted"], counts["updated"], counts["deleted"]) for table, counts in sorted(changes.items())
    ]
    console.print(_table("Changed in the release by this run", ("table", "inserted", "updated", "deleted"), rows))


def _table(
    title: str | None, columns: tuple[str, ...] | list[str], rows: list[tuple[Any, ...]], widest: int = 64
) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for index, column in enumerate(columns):
        numbers = bool(rows) and all(isinstance(row[index], int | Decimal | None) for row in rows)
        justify: Literal["right", "left"] = "right" if numbers else "left"
        table.add_column(column, justify=justify, no_wrap=True, overflow="ellipsis", max_width=widest)
    for row in rows:
        table.add_row(*(escape(_text(value)) for value in row))
    return table


def _text(value: object) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Decimal):
        return f"{value:,.2f}"
    return "" if value is None else str(value)


def _one(connection: Any, query: str) -> tuple[Any, ...]:
    return tuple(connection.execute(query).fetchall()[0])
