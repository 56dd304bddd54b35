"""Suites over `extracted.<table>`: the columns that Dynamics still had when the table was last read.

All warnings: a run goes on without a column that was removed from Dynamics, the column is empty, and the failed
expectation names it.
"""

from __future__ import annotations

from collections.abc import Mapping

from opportunity_sync.expectations import Suite
from opportunity_sync.expectations.gx import import_gx
from opportunity_sync.tables import Selection


def suites(selections: Mapping[str, Selection]) -> list[Suite]:
    """One suite per Dataverse table, one expectation per selected column of `include/tables.yaml`."""
    gxe = import_gx().expectations
    return [
        Suite(
            name="extracted",
            relation=table,
            key=(selection.key,),
            expectations=tuple(
                gxe.ExpectColumnToExist(column=column, severity="warning") for column in selection.columns
            ),
        )
        for table, selection in selections.items()
    ]
