"""Columns and types that analysts may rely on, as in the rules of the published file (`docs/`, data dictionary)."""

from __future__ import annotations

from typing import Any

from opportunity_sync.expectations.rows import no_rows

UUID, TEXT, INTEGER, BIGINT, BOOLEAN = "UUID", "VARCHAR", "INTEGER", "BIGINT", "BOOLEAN"
MONEY, DATE, UTC = "DECIMAL(19,4)", "DATE", "TIMESTAMP"

CONTRACT: dict[str, dict[str, str]] = {
    "opportunities": {
        "opportunity_id": UUID,
        "name": TEXT,
        "account_id": UUID,
        "account_name": TEXT,
        "account_rule": TEXT,
        "customer_id": UUID,
        "customer_type": TEXT,
        "state_code": INTEGER,
        "state": TEXT,
        "status_code": INTEGER,
        "status": TEXT,
        "is_closed": BOOLEAN,
        "is_won": BOOLEAN,
        "amount": MONEY,
        "amount_base": MONEY,
        "estimated_value": MONEY,
        "actual_value": MONEY,
        "currency_id": UUID,
        "estimated_close_date": DATE,
        "actual_close_date": DATE,
        "close_date": DATE,
        "close_probability": INTEGER,
        "sales_stage_code": INTEGER,
        "sales_stage": TEXT,
        "owner_id": UUID,
        "owner_type": TEXT,
        "created_at": UTC,
        "modified_at": UTC,
        "version_number": BIGINT,
    },
    "opportunity_contact_roles": {
        "opportunity_id": UUID,
        "contact_id": UUID,
        "role": TEXT,
        "role_source": TEXT,
        "is_primary": BOOLEAN,
        "connection_role_id": UUID,
        "connected_at": UTC,
    },
    "contacts": {
        "contact_id": UUID,
        "full_name": TEXT,
        "email": TEXT,
        "account_id": UUID,
        "state_code": INTEGER,
        "created_at": UTC,
        "modified_at": UTC,
    },
    "accounts": {
        "account_id": UUID,
        "name": TEXT,
        "state_code": INTEGER,
        "created_at": UTC,
        "modified_at": UTC,
    },
    "release": {"release_id": TEXT, "released_at": UTC, "run_id": TEXT, "pipeline_version": TEXT},
    "release_tables": {"table_name": TEXT, "rows": BIGINT, "as_of": UTC, "last_batch": TEXT},
    "reconciliations": {
        "table_name": TEXT,
        "swept_at": UTC,
        "checked": BIGINT,
        "missing": BIGINT,
        "gone": BIGINT,
        "stale": BIGINT,
        "repaired": BIGINT,
        "batch": TEXT,
    },
    "unresolved_references": {
        "relation": TEXT,
        "key": UUID,
        "reference": TEXT,
        "target_table": TEXT,
        "target_id": UUID,
    },
}


def columns_match(relation: str) -> Any:
    """Expect every column of the contract with its DuckDB type; more columns are allowed."""
    promised = ", ".join(f"('{column}', '{kind}')" for column, kind in CONTRACT[relation].items())
    return no_rows(
        "columns_match_the_contract",
        f"""
        select promised.column_name, promised.data_type as promised, found.data_type as found
        from (values {promised}) as promised (column_name, data_type)
        left join duckdb_columns() as found
            on found.database_name = current_database()
            and found.schema_name = 'main'
            and found.table_name = '{relation}'
            and found.column_name = promised.column_name
        where found.data_type is distinct from promised.data_type
        """,
        severity="critical",
    )
