"""What happens in the organisation between two runs, so that the second one has something to sync.

`changes.json` of the seed folder, once; after that, and for folders without one, two ordinary changes to open
opportunities: one is won, one is renamed.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opportunity_sync.data_root import DataRoot
from opportunity_sync.settings import Settings
from quickstart.stand_in import StandIn, read_record, remember


def make_changes(settings: Settings, seed: Path, stand_in: StandIn) -> list[str]:
    """Change the organisation.

    Returns:
        What was changed, one sentence each.

    Raises:
        QuickStartError: the stand-in refused.
    """
    file = seed / "changes.json"
    from_file = file.exists() and not read_record(settings).get("changed")
    operations = json.loads(file.read_text(encoding="utf-8")) if from_file else _ordinary_changes(settings)
    stand_in.apply(operations)
    if from_file:
        remember(settings, {"changed": True})
    return list(dict.fromkeys(operation["why"] for operation in operations))


def _ordinary_changes(settings: Settings) -> list[dict[str, Any]]:
    import duckdb

    now = datetime.now(UTC)
    with duckdb.connect(str(DataRoot(settings.data).live_file), read_only=True) as connection:
        found = connection.execute(
            "select opportunity_id, name, coalesce(amount, 0) from opportunities "
            "where state_code = 0 order by modified_at, opportunity_id limit 2"
        ).fetchall()
    won, renamed = found[:1], found[1:]
    return [
        {
            "why": f"{name} is won",
            "op": "update",
            "table": "opportunity",
            "id": str(key),
            "values": {
                "statecode": 1,
                "statuscode": 3,
                "actualvalue": float(amount),
                "actualclosedate": f"{now:%Y-%m-%d}",
            },
        }
        for key, name, amount in won
    ] + [
        {
            "why": f"{name} is renamed",
            "op": "update",
            "table": "opportunity",
            "id": str(key),
            "values": {"name": f"{str(name).split(' (changed ')[0]} (changed {now:%H:%M:%S})"},
        }
        for key, name, _ in renamed
    ]
