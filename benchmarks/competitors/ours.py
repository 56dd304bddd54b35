"""This project: `python -m benchmarks.competitors.ours URL CA DATA INCLUDE` extracts the table into a data root."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

# Imported before the clock starts, as the peers import their libraries.
import duckdb  # noqa: F401
import filelock  # noqa: F401
import msal  # noqa: F401
import ruamel.yaml  # noqa: F401

from benchmarks.server import CLIENT_ID, CLIENT_SECRET, TENANT
from opportunity_sync.data_root import open_data_root
from opportunity_sync.dataverse.auth import Credentials, DataverseAuth
from opportunity_sync.dataverse.client import DataverseClient
from opportunity_sync.extract import extract_full
from opportunity_sync.lake import Lake
from opportunity_sync.settings import Settings
from opportunity_sync.tables import load_tables


def main() -> None:
    """Extract all opportunities."""
    url, ca_bundle, data, include = sys.argv[1:]
    started = time.perf_counter()
    settings = Settings(data=Path(data), include=Path(include))
    credentials = Credentials(
        kind="secret",
        organization_url=url,
        tenant=TENANT,
        authority=url,
        client_id=CLIENT_ID,
        secret=CLIENT_SECRET,
        ca_bundle=ca_bundle,
    )
    lake = Lake(open_data_root(settings.data).raw)
    selection = load_tables(settings.tables_file)["opportunity"]
    with DataverseClient(url, DataverseAuth(credentials), ca_bundle=ca_bundle) as client:
        manifest = extract_full(client, selection, lake, settings, "benchmark")
    seconds = time.perf_counter() - started
    folder = lake.folder(manifest.table, manifest.batch)
    print(json.dumps({"seconds": seconds, "rows": manifest.rows, "parquet": f"{folder}/rows-*.parquet"}))


if __name__ == "__main__":
    main()
