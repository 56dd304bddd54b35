"""The one custom expectation: no row may come out of a query for rows that break a rule."""

from __future__ import annotations

from functools import cache
from typing import Any

SAMPLES = 20
"""Keys of unexpected rows that are kept per expectation."""


def no_rows(rule: str, query: str, *, severity: str) -> Any:
    """Expect a query to return nothing.

    Args:
        rule: name of the rule, shown in place of a GX type.
        query: SQL over `checked` (the relation that the suite is about) and other relations of the same file; selects
            the keys of unexpected rows, never a name or an e-mail address.
        severity: `critical` or `warning`.
    """
    return _expectation_class()(
        rule=rule, unexpected_rows_query=f"with checked as (select * from {{batch}})\n{query}", severity=severity
    )


@cache
def _expectation_class() -> type[Any]:
    from opportunity_sync.expectations.gx import import_gx

    import_gx()
    from great_expectations.expectations.core import UnexpectedRowsExpectation

    class ExpectNoRows(UnexpectedRowsExpectation):  # type: ignore[misc]
        """`UnexpectedRowsExpectation` that also says how many rows were checked and which keys were unexpected."""

        rule: str

        metric_dependencies = (*UnexpectedRowsExpectation.metric_dependencies, "table.row_count")

        def _validate(
            self, metrics: dict[str, Any], runtime_configuration: Any = None, execution_engine: Any = None
        ) -> dict[str, Any]:
            count = metrics["unexpected_rows_query.row_count"]
            return {
                "success": count == 0,
                "result": {
                    "element_count": metrics["table.row_count"],
                    "unexpected_count": count,
                    "partial_unexpected_index_list": metrics["unexpected_rows_query.table"][:SAMPLES],
                },
            }

    return ExpectNoRows
