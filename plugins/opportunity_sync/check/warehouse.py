"""The private warehouse: can it be opened, and does it fit the raw batches."""

from __future__ import annotations

from opportunity_sync.check.finding import Finding, hold
from opportunity_sync.data_root import DataRoot
from opportunity_sync.errors import LakeError
from opportunity_sync.lake import Lake
from opportunity_sync.tables import READ_ORDER

WHERE = "warehouse/warehouse.duckdb"
REBUILT = "Nothing: the next run rebuilds it from the raw batches, or `opportunity-sync rebuild` now"


def check_warehouse(root: DataRoot) -> list[Finding]:
    """Check the warehouse, unless a run is working on it: whoever opens the file then disturbs the other."""
    if not root.warehouse.exists():
        what = "is not there: the next run builds it from the raw batches"
        return [Finding(severity="note", where=WHERE, what=what, action="Nothing")]
    with hold(root.warehouse.with_suffix(".lock")) as is_free:
        if not is_free:
            what = "was not looked at, because a run is working on it"
            return [Finding(severity="note", where=WHERE, what=what, action="Check again after the run")]
        return _look(root)


def _look(root: DataRoot) -> list[Finding]:
    import duckdb

    lake = Lake(root.raw)
    try:
        with duckdb.connect(str(root.warehouse), read_only=True) as connection:
            applied = connection.execute("select table_name, batch from meta.batches").fetchall()
    except duckdb.Error as error:
        what = f"cannot be read ({type(error).__name__})"
        return [Finding(severity="warning", where=WHERE, what=what, action=REBUILT)]
    findings = []
    for table in READ_ORDER:
        try:
            known = {*lake.names(table), *lake.replaced(table)}
        except LakeError:
            continue  # the check of the lake says so
        if gone := {batch for name, batch in applied if name == table} - known:
            what = f"holds {len(gone)} batches of table {table} that the lake no longer has, for example {min(gone)}"
            findings.append(Finding(severity="warning", where=WHERE, what=what, action=REBUILT))
    return findings
