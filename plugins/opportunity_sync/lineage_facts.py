"""What a finished task read and wrote, for OpenLineage: datasets with columns, counts and results; never a row.

Names of datasets, after https://openlineage.io/docs/spec/naming:

| what | namespace | name |
|---|---|---|
| a Dataverse table | `https://contoso.crm.dynamics.com` | `opportunity` |
| its raw batches | `file` | `<data root>/raw/opportunity` |
| a relation of the warehouse | `duckdb://<data root>/warehouse/warehouse.duckdb` | `warehouse.staging.opportunities` |
| a table of a candidate | `duckdb://<data root>/published/candidates` | `opportunities.main.opportunities` |
| a published table | `duckdb://<data root>/published/opportunities.duckdb` | `opportunities.main.opportunities` |

A name stays the same from run to run; which batch or release is meant, the version says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from opportunity_sync.data_root import DataRoot
from opportunity_sync.lake import Lake, Manifest
from opportunity_sync.published import failed_folder
from opportunity_sync.release import DATABASE, PUBLISHED_TABLES, live_release
from opportunity_sync.settings import Settings
from opportunity_sync.tables import CORE, READ_ORDER

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from opportunity_sync.lineage import Lineage, Source


WAREHOUSE_SUITES = ("extracted", "staging")
"""Suites over relations of the warehouse, by their schema; the others are over the candidate."""


@dataclass(frozen=True)
class Field:
    """A column of another dataset."""

    namespace: str
    name: str
    column: str


@dataclass(frozen=True)
class Column:
    """A column, and where its values come from."""

    name: str
    type: str
    description: str = ""
    sources: tuple[Field, ...] = ()
    """What the values are computed from."""
    lookups: tuple[Field, ...] = ()
    """What finds the row they are taken from."""


@dataclass(frozen=True)
class Result:
    """A row of `expectation_results`, without suite and relation."""

    expectation: str
    column: str | None
    severity: str
    success: bool
    unexpected_count: int | None
    element_count: int | None


@dataclass(frozen=True)
class Dataset:
    """A dataset as one task saw it."""

    namespace: str
    name: str
    version: str | None = None
    """Batch or release."""
    columns: tuple[Column, ...] = ()
    row_lookups: tuple[Field, ...] = ()
    """What decides which rows there are."""
    rows: int | None = None
    bytes: int | None = None
    files: int | None = None
    results: tuple[Result, ...] = ()


@dataclass(frozen=True)
class Facts:
    """What one task read and wrote."""

    inputs: tuple[Dataset, ...] = ()
    outputs: tuple[Dataset, ...] = ()


def extracted(settings: Settings, pointer: Mapping[str, Any]) -> Facts:
    """A batch, and the table it was read from.

    Args:
        settings: settings of the data root.
        pointer: what `steps.extract`, `steps.extract_window` or `steps.sweep` returned.
    """
    root = DataRoot(settings.data)
    batch = Lake(root.raw).manifest(pointer["table"], pointer["batch"])
    table = Dataset(
        pointer["organization"],
        batch.table,
        columns=tuple(Column(each.name, each.attribute_type, each.label or each.description) for each in batch.columns),
    )
    columns = [
        Column(shown, type_, column.label or column.description, (Field(table.namespace, table.name, column.name),))
        for column in batch.columns
        for shown, type_ in column.stored().items()
    ]
    written = replace(
        _raw(root, batch.table, batch.batch),
        columns=tuple(columns),
        rows=batch.rows,
        bytes=sum(file.bytes for file in batch.files),
        files=len(batch.files),
    )
    return Facts((table,), (written,))


def transformed(settings: Settings, release_id: str) -> Facts:
    """A candidate, the relations of the warehouse it was derived through, and the raw batches both are made of."""
    from opportunity_sync.lineage import trace
    from opportunity_sync.warehouse.models import load_models

    root, lake = DataRoot(settings.data), Lake(settings.data / "raw")
    newest = {table: lake.manifest(table, names[-1]) for table in READ_ORDER if (names := lake.names(table))}
    models = load_models(settings.sql)
    lineage = trace(models, {table: _additional(batch) for table, batch in newest.items()})
    with _open(root, release_id) as connection:
        versions = dict(connection.execute("select table_name, last_batch from release_tables").fetchall())
        candidate = [
            _with_lineage(_table(connection, _candidate(root, release_id, name)), lineage[f"marts.{name}"], root)
            for name in PUBLISHED_TABLES
        ]
    through = [f"extracted.{table}" for table in READ_ORDER] + [name for name in models if name.startswith("staging.")]
    return Facts(
        inputs=tuple(_raw(root, table, versions.get(table)) for table in READ_ORDER),
        outputs=(*(_warehouse(root, name) for name in through), *candidate),
    )


def validated(settings: Settings, release_id: str) -> Facts:
    """The relations that expectations were evaluated on, with the results; also of a candidate that failed."""
    root = DataRoot(settings.data)
    results: dict[Dataset, list[Result]] = {}
    with _open(root, release_id) as connection:
        for suite, relation, *values in connection.execute(
            "select suite, relation, expectation, column_name, severity, success, unexpected_count, element_count "
            "from expectation_results"
        ).fetchall():
            is_published = relation in PUBLISHED_TABLES and suite not in WAREHOUSE_SUITES
            checked = (
                _table(connection, _candidate(root, release_id, relation))
                if is_published
                else _warehouse(root, f"{suite}.{relation}")
            )
            results.setdefault(checked, []).append(Result(*values))
        written = _table(connection, _candidate(root, release_id, "expectation_results"))
    return Facts(tuple(replace(checked, results=tuple(found)) for checked, found in results.items()), (written,))


def published(settings: Settings, release_id: str) -> Facts:
    """The published tables and the candidate's that they were; nothing where a newer release stayed live."""
    root = DataRoot(settings.data)
    live = live_release(root)
    if live is None or live.release_id != release_id:
        return Facts()
    with _open(root, release_id) as connection:
        tables = [_table(connection, _candidate(root, release_id, name)) for name in PUBLISHED_TABLES]
    namespace = f"duckdb://{root.live_file}"
    return Facts(
        tuple(tables),
        tuple(
            replace(
                table,
                namespace=namespace,
                columns=tuple(
                    replace(column, sources=(Field(table.namespace, table.name, column.name),))
                    for column in table.columns
                ),
            )
            for table in tables
        ),
    )


def _raw(root: DataRoot, table: str, batch: str | None) -> Dataset:
    return Dataset("file", str(root.raw / table), version=batch)


def _warehouse(root: DataRoot, relation: str) -> Dataset:
    return Dataset(f"duckdb://{root.warehouse}", f"{root.warehouse.stem}.{relation}")


def _candidate(root: DataRoot, release_id: str, table: str) -> Dataset:
    return Dataset(f"duckdb://{root.candidates}", f"{root.live_file.stem}.main.{table}", version=release_id)


def _open(root: DataRoot, release_id: str) -> DuckDBPyConnection:
    """The file of a release, wherever it is by now; also one that failed validation."""
    import duckdb

    folders = [parent / release_id for parent in (root.candidates, root.releases, failed_folder(root))]
    (found,) = (folder for folder in folders if (folder / "release.json").is_file())
    return duckdb.connect(str(found / DATABASE), read_only=True)


def _table(connection: DuckDBPyConnection, dataset: Dataset) -> Dataset:
    """A table of a release with its columns and its number of rows."""
    table = dataset.name.rpartition(".")[2]
    columns = connection.execute(
        "select column_name, data_type, coalesce(comment, '') from duckdb_columns() "
        "where schema_name = 'main' and table_name = ? order by column_index",
        [table],
    ).fetchall()
    ((rows,),) = connection.execute(f'select count(*) from main."{table}"').fetchall()
    return replace(dataset, columns=tuple(Column(*column) for column in columns), rows=rows)


def _with_lineage(dataset: Dataset, lineage: Lineage, root: DataRoot) -> Dataset:
    def fields(sources: Iterable[Source]) -> tuple[Field, ...]:
        return tuple(
            Field("file", str(root.raw / source.table), source.column)
            for source in sources
            if source.kind == "dataverse" and source.column != "*"
        )

    columns = []
    for column in dataset.columns:
        # An additional column that the newest batch lacks, because it was deselected just now, has no known origin.
        origin = lineage.columns.get(column.name)
        columns.append(
            replace(column, sources=fields(origin.sources), lookups=fields(origin.lookups)) if origin else column
        )
    return replace(dataset, columns=tuple(columns), row_lookups=fields(lineage.rows))


def _additional(batch: Manifest) -> dict[str, str]:
    """Names that columns beyond the core may have in the views, with their Dataverse columns (`warehouse/views.py`)."""
    names = [column.name for column in batch.columns if column.name not in CORE[batch.table]]
    return {f"{name}{suffix}": name for name in names for suffix in ("", "_code", "_type")}
