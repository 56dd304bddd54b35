"""The data dictionary: what every published table, view and macro holds, where it comes from, and what guards it.

Descriptions are the comments of the SQL models, types those of a release built from nothing, sources the lineage that
`opportunity_sync.lineage` reads out of the models, expectations the suites in `opportunity_sync/expectations/`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from opportunity_sync.data_root import DataRoot
from opportunity_sync.expectations import Suite
from opportunity_sync.expectations.gx import column_name
from opportunity_sync.expectations.words import in_words
from opportunity_sync.lineage import Lineage, Origin, Source, in_brief, trace
from opportunity_sync.release import DATABASE, PUBLISHED_MACROS, PUBLISHED_TABLES, PUBLISHED_VIEWS, Run
from opportunity_sync.settings import Settings
from opportunity_sync.validate import plan
from opportunity_sync.warehouse import transform
from opportunity_sync.warehouse.models import Model, load_models

INTRODUCTION = """Tables, views and table macros of `opportunities.duckdb`; of the tables each release has Parquet
files too. The meanings, and the sources where they are few, are comments inside the DuckDB file as well. Timestamps are
UTC, without a zone. Additional columns of `include/tables.yaml` appear behind these, under their Dataverse names; an
additional choice column `x` gives `x_code` (value) and `x` (label).

**From** says what a value is computed from: Dataverse columns as `table.column`, [settings](settings.md), facts about
the run, bookkeeping of the raw batches. *Found through* are the columns that lead to the row it is taken from; *what
decides the rows* stands above the table. All of it is read out of the models in `include/sql/`.

An expectation that is *critical* stops a release; a *warning* is published and shown in `expectation_results`.
"""

BATCHES = {"_batch": "the raw batch's name", "_extracted_at": "the time it was read"}
FILLED = {
    "expectation_results": "the pipeline: validation fills it in",
    "release_changes": "the pipeline: the comparison with the release before fills it in",
}
"""Marts that the SQL only lays out, and who fills them."""


@dataclass(frozen=True)
class Guard:
    """One expectation, as the dictionary lists it."""

    suite: str
    relation: str
    expectation: str
    severity: str
    columns: str
    sentence: str


@dataclass(frozen=True)
class Facts:
    """What the page is made of."""

    models: Mapping[str, Model]
    columns: Mapping[str, list[tuple[str, str, str]]]
    """Per table and view its columns: name, type, and comment in the file."""
    guards: list[Guard]


def data_dictionary(include: Path) -> str:
    """The whole page.

    Args:
        include: folder with `tables.yaml` and `sql/`.
    """
    facts = collect(include)
    lineages = trace(facts.models)
    parts = ["# Data dictionary\n", INTRODUCTION, *_contents(facts)]
    for relation, columns in facts.columns.items():
        model = model_of(facts.models, relation)
        lineage = lineages[model.qualified]
        parts.append(f"## {relation}\n\n{model.description}{' (A view.)' if model.schema == 'views' else ''}\n")
        if decisive := deciding(lineage):
            parts.append(f"Which rows there are depends on {sources(decisive)}.\n")
        parts.append("| column | type | meaning | from |\n|---|---|---|---|")
        for name, kind, comment in columns:
            found = lineage.columns[name]
            parts.append(f"| `{name}` | {kind} | {comment.removesuffix(in_brief(found))} | {origin(found, lineage)} |")
        parts += ["", *_guard_table([each for each in facts.guards if each.relation == relation])]
    for macro in PUBLISHED_MACROS:
        described = facts.models[f"macros.{macro}"].description
        shape = f"Columns as in `{macro.removesuffix('_as_of')}`."
        parts.append(f"## {macro}(moment)\n\n{described} (A table macro.) {shape}\n")
    return "\n".join([*parts, *_extracted(facts)])


def collect(include: Path) -> Facts:
    """Build a release from nothing, and plan its validation."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data=Path(folder), include=include)
        release = transform(settings, Run(run_id="docs", started_at=datetime.now(UTC)))
        root = DataRoot(settings.data)
        with duckdb.connect(str(root.candidates / release.release_id / DATABASE), read_only=True) as connection:
            query = (
                "select column_name, data_type, comment from duckdb_columns() "
                "where not internal and schema_name = 'main' and table_name = ?"
            )
            columns = {
                relation: connection.execute(query, [relation]).fetchall()
                for relation in (*PUBLISHED_TABLES, *PUBLISHED_VIEWS)
            }
        parts = plan(settings, root, release, None)
        guards = [_guard(suite, each) for part in parts for suite in part.suites for each in suite.expectations]
    return Facts(load_models(settings.sql), columns, guards)


def model_of(models: Mapping[str, Model], relation: str) -> Model:
    """The model of a published table or view."""
    return models[f"{'marts' if relation in PUBLISHED_TABLES else 'views'}.{relation}"]


def _contents(facts: Facts) -> list[str]:
    """One line per relation: its grain, which is the last sentence or two of its description."""
    rows = [f"| [`{name}`](#{name}) | {grain(model_of(facts.models, name).description)} |" for name in facts.columns]
    rows += [
        f"| [`{name}(moment)`](#{name}moment) | as `{name.removesuffix('_as_of')}`, at an earlier moment |"
        for name in PUBLISHED_MACROS
    ]
    return ["| relation | one row per |\n|---|---|", *rows, ""]


def grain(description: str) -> str:
    """What one row is, out of a description that says `One row per ...`."""
    _, _, found = description.partition("One row")
    return found.removeprefix(" per ").partition(".")[0].partition(";")[0].strip() or "one row only"


def _guard(suite: Suite, expectation: Any) -> Guard:
    kwargs = dict(expectation.configuration.kwargs)
    name, columns = kwargs.pop("rule", expectation.configuration.type), column_name(kwargs)
    configured = {} if suite.name == "release" else kwargs  # its bounds are those of one release
    return Guard(
        suite=suite.name,
        relation=suite.relation,
        expectation=name,
        severity=expectation.configuration.severity.value,
        columns=columns or "",
        sentence=in_words(suite.relation, name, columns, configured),
    )


def _guard_table(found: list[Guard]) -> list[str]:
    rows = []
    for each in sorted(found, key=lambda guard: guard.suite == "staging"):
        is_mixed = each.suite == "staging" and found[0].suite != "staging"
        sentence = f"Of the rows as extracted: {each.sentence}" if is_mixed else each.sentence
        columns = f"`{each.columns}`" if each.columns else ""
        rows.append(f"| {sentence} | {each.severity} | `{each.expectation}` | {columns} |")
    return ["| expected | severity | expectation | columns |\n|---|---|---|---|", *rows, ""] if rows else []


def _extracted(facts: Facts) -> list[str]:
    """What is expected of extracted rows that are no published table of the same name, and of the columns read."""
    parts = ["## Extracted rows\n", "Expectations about what Dynamics sent, besides those above.\n"]
    relations = dict.fromkeys(each.relation for each in facts.guards if each.suite == "staging")
    for relation in relations:
        if relation not in facts.columns:
            model = facts.models[f"staging.{relation}"]
            parts += [
                f"### {relation}\n\n{model.description}\n",
                *_guard_table([each for each in facts.guards if each.relation == relation]),
            ]
    tables: dict[str, list[str]] = {}
    for each in facts.guards:
        if each.suite == "extracted":
            tables.setdefault(each.relation, []).append(each.columns)
    parts.append("### Columns\n\nDynamics still has every column that is read (warning, `expect_column_to_exist`).\n")
    parts.append("| table | columns |\n|---|---|")
    parts += [f"| `{table}` | {', '.join(names)} |" for table, names in tables.items()]
    return [*parts, ""]


def deciding(lineage: Lineage) -> tuple[Source, ...]:
    """What decides which rows there are; nothing when that is only the key they have in Dataverse."""
    key = next(iter(lineage.columns.values())).sources
    return () if set(lineage.rows) <= set(key) else lineage.rows


def origin(found: Origin, lineage: Lineage) -> str:
    """What one column is computed from, as a cell of the table."""
    if not found.sources:
        return "a constant of the model"
    of_rows = deciding(lineage)
    paths = ["what decides the rows"] if set(found.lookups) & set(of_rows) else []
    if others := [each for each in found.lookups if each not in of_rows]:
        paths.append(sources(others))
    return sources(found.sources) + (f"; found through {' and '.join(paths)}" if paths else "")


def sources(found: Iterable[Source]) -> str:
    """Sources in words: Dataverse columns grouped by table, then settings, facts about the run, and bookkeeping."""
    columns: dict[str, list[str]] = {}
    settings, run, batches, pipeline = [], [], [], []
    for kind, table, name in found:
        if kind == "dataverse":
            columns.setdefault(table, []).append(name)
        elif kind == "pipeline":
            pipeline.append(FILLED[table])
        elif kind == "batches":
            batches.append(BATCHES.get(name) or f"{table}.{name}")
        elif name in Settings.model_fields:
            settings.append(f"`OPPORTUNITY_SYNC_{name.upper()}`")
        else:
            run.append(name)
    parts = [_columns_of(table, names) for table, names in columns.items()]
    parts += [f"setting {name}" for name in settings]
    parts += [f"the run: {', '.join(run)}"] if run else []
    parts += [f"raw batches: {', '.join(batches)}"] if batches else []
    return "; ".join([*parts, *dict.fromkeys(pipeline)])


def _columns_of(table: str, names: list[str]) -> str:
    if names == ["*"]:
        return f"the number of rows of `{table}`"
    return ", ".join(f"`{table}.{name}`" for name in names) if len(names) < 3 else f"`{table}`: {', '.join(names)}"
