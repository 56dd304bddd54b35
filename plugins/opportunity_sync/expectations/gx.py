"""Run suites on a DuckDB file with Great Expectations, and keep of its results counts and keys, never other values."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opportunity_sync.expectations import Outcome, Suite
from opportunity_sync.expectations.rows import SAMPLES

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection


def import_gx() -> Any:
    """Import Great Expectations (6 to 12 s) without the warnings and messages of its own imports."""
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import great_expectations
        import great_expectations.expectations

    return great_expectations


def run_suites(file: Path, schema: str, suites: Iterable[Suite], *, memory_limit: str) -> list[Outcome]:
    """Evaluate suites on the relations of one schema of a DuckDB file, which is opened read-only.

    Args:
        file: DuckDB file that no one writes meanwhile.
        schema: schema of the relations, for example `staging`.
        suites: what to expect.
        memory_limit: DuckDB memory limit, for example `2GB`.
    """
    import duckdb

    import_gx()
    from great_expectations.data_context.data_context.context_factory import project_manager

    config: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": memory_limit,
        "temp_directory": f"{file}.spill",
    }
    with closing(duckdb.connect(str(file), read_only=True, config=config)) as connection:
        source = _data_source(connection, schema)
        try:
            return [outcome for suite in suites for outcome in _run(source, suite)]
        finally:
            source.get_execution_engine().engine.dispose()
            source.get_engine().dispose()
            project_manager.set_project(None)


def _data_source(connection: DuckDBPyConnection, schema: str) -> Any:
    gx = import_gx()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # duckdb-engine probes DuckDB with calls that DuckDB 2.0 deprecates
        from great_expectations.data_context.types.base import (
            DataContextConfig,
            InMemoryStoreBackendDefaults,
            ProgressBarsConfig,
        )
        from sqlalchemy.dialects import registry

        from opportunity_sync.expectations.dialect import Connection

    registry.register("duckdb.readonly", "opportunity_sync.expectations.dialect", "ReadOnlyDialect")

    def connect() -> Any:
        cursor = connection.cursor()
        cursor.execute(f"set schema = '{schema}'")
        return Connection(cursor)

    context = gx.get_context(
        mode="ephemeral",
        project_config=DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(init_temp_docs_sites=False),
            analytics_enabled=False,
            progress_bars=ProgressBarsConfig(globally=False),
        ),
    )
    return context.data_sources.add_sql(
        name="duckdb", connection_string="duckdb+readonly://", create_temp_table=False, kwargs={"creator": connect}
    )


def _run(source: Any, suite: Suite) -> list[Outcome]:
    gx = import_gx()
    asset = source.add_table_asset(name=f"{suite.name}.{suite.relation}", table_name=suite.relation)
    batch = asset.add_batch_definition_whole_table("all").get_batch()
    result = batch.validate(
        gx.ExpectationSuite(name=f"{suite.name}.{suite.relation}", expectations=list(suite.expectations)),
        result_format={
            "result_format": "SUMMARY",
            "partial_unexpected_count": SAMPLES,
            "unexpected_index_column_names": list(suite.key),
            "exclude_unexpected_values": True,
            "return_unexpected_index_query": False,
        },
    )
    return [_outcome(suite, each.to_json_dict()) for each in result.results]


def _outcome(suite: Suite, result: dict[str, Any]) -> Outcome:
    config, found = result["expectation_config"], result["result"]
    kwargs = {name: value for name, value in config["kwargs"].items() if name != "batch_id"}
    observed = found.get("observed_value")
    return Outcome(
        suite=suite.name,
        relation=suite.relation,
        expectation=kwargs.pop("rule", config["type"]),
        column_name=column_name(kwargs),
        severity=config["severity"],
        success=result["success"],
        unexpected_count=found.get("unexpected_count"),
        element_count=found.get("element_count", observed if isinstance(observed, int) else None),
        kwargs=kwargs,
        keys=tuple(_keys(found.get("partial_unexpected_index_list") or [])),
        problem=_problem(result.get("exception_info", {})),
    )


def column_name(kwargs: dict[str, Any]) -> str | None:
    """The column or columns an expectation is about, from how it is configured."""
    if "column" in kwargs:
        return str(kwargs["column"])
    columns = [kwargs[name] for name in ("column_A", "column_B") if name in kwargs] or kwargs.get("column_list", [])
    return ", ".join(columns) or None


def _keys(index: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """GX gives keys as one dict of lists, `rows.no_rows` as a list of dicts."""
    if len(index) == 1 and all(isinstance(values, list) for values in index[0].values()):
        names = list(index[0])
        return [dict(zip(names, values, strict=True)) for values in zip(*index[0].values(), strict=True)]
    return index


def _problem(info: dict[str, Any]) -> str | None:
    """First line of the exception that kept an expectation from being evaluated."""
    for each in (info, *(value for value in info.values() if isinstance(value, dict))):
        if each.get("raised_exception"):
            return str(each.get("exception_message")).partition("\n")[0]
    return None
