"""All stages in a row, as the DAG runs them, for tests that need a process of its own to disturb."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from opportunity_sync import validate as validation
from opportunity_sync.data_root import open_data_root
from opportunity_sync.dataverse.auth import Credentials, DataverseAuth
from opportunity_sync.dataverse.client import DataverseClient
from opportunity_sync.export import export
from opportunity_sync.extract import extract_full, extract_scheduled
from opportunity_sync.lake import Lake
from opportunity_sync.publish import publish
from opportunity_sync.release import Release, Run
from opportunity_sync.settings import Settings
from opportunity_sync.tables import load_tables
from opportunity_sync.warehouse import transform

DAY = datetime(2026, 6, 15, 12, tzinfo=UTC)


def run_once(
    data: Path, credentials: Credentials, *, full: bool = False, at: datetime = DAY, page_size: int = 7
) -> Release:
    """Extract all tables, transform, validate, publish, export."""
    chosen = Settings(data=data, page_size=page_size)
    lake = Lake(open_data_root(data).raw)
    read = extract_full if full else extract_scheduled
    with DataverseClient(
        credentials.organization_url, DataverseAuth(credentials), ca_bundle=credentials.ca_bundle
    ) as client:
        for selection in load_tables(chosen.tables_file).values():
            read(client, selection, lake, chosen, "test")
    candidate = transform(chosen, Run(run_id="test", started_at=at))
    validation.validate(chosen, candidate.release_id)
    release = publish(chosen, candidate.release_id)
    export(chosen, candidate.release_id)
    return release
