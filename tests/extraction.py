"""One table of the stand-in, a lake, and the calls between them, for tests of extraction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb

from emulator.server import Emulator
from opportunity_sync.dataverse.client import DataverseClient
from opportunity_sync.extract import extract_changes, extract_full, extract_scheduled, extract_window
from opportunity_sync.lake import Lake, Manifest
from opportunity_sync.settings import Settings
from opportunity_sync.tables import Selection, load_tables

TABLES_FILE = Path(__file__).parents[1] / "include" / "tables.yaml"
MODES: dict[str, Callable[..., Manifest]] = {
    "full": extract_full,
    "changes": extract_changes,
    "window": extract_window,
    "scheduled": extract_scheduled,
}


def selection(table: str, *additional: str) -> Selection:
    """The shipped selection and more columns."""
    chosen = load_tables(TABLES_FILE)[table]
    return replace(chosen, columns=(*chosen.columns, *additional))


@dataclass
class Extraction:
    """Extracts from a stand-in into a lake."""

    organisation: Emulator
    client: DataverseClient
    lake: Lake
    settings: Settings

    def run(self, mode: str, table: str = "opportunity", *additional: str, **options: Any) -> Manifest:
        """One extraction by the function of that name."""
        chosen = selection(table, *additional)
        return MODES[mode](self.client, chosen, self.lake, self.settings, "run-1", **options)

    def rows(self, manifest: Manifest) -> list[dict[str, Any]]:
        """Rows of a batch, by key."""
        return self._read(manifest, "rows", f"{manifest.table}id")

    def deleted(self, manifest: Manifest) -> set[str]:
        """Ids that a batch reports as deleted."""
        return {str(row["id"]) for row in self._read(manifest, "deletes", "id")}

    def ids(self, manifest: Manifest) -> set[str]:
        """Keys of the rows of a batch; fails when one is there twice."""
        found = [str(row[f"{manifest.table}id"]) for row in self.rows(manifest)]
        assert len(found) == len(set(found))
        return set(found)

    def live_ids(self, table: str = "opportunity") -> set[str]:
        """Keys of the rows the organisation has now."""
        return {str(row[f"{table}id"]).lower() for row in self.organisation.store.rows(table)}

    def leftovers(self, table: str = "opportunity") -> set[str]:
        """What lies in a table's folder besides complete batches."""
        folder = self.lake.path / table
        present = {path.name for path in folder.iterdir()} if folder.exists() else set()
        return present - {batch.batch for batch in self.lake.batches(table)}

    def _read(self, manifest: Manifest, prefix: str, order: str) -> list[dict[str, Any]]:
        files = [str(path) for path in self.lake.files(manifest, prefix)]
        if not files:
            return []
        with duckdb.connect() as connection:
            result = connection.execute(f"select * from read_parquet({files}) order by {order}")
            names = [column[0] for column in result.description or ()]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]
