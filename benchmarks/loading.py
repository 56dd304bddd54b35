"""Make a release for Marketo and load it: `python -m benchmarks.loading make|load ...`, children of `marketo.py`.

make DATA OPPORTUNITIES CHANGED    a live release with two roles per opportunity; the first CHANGED have another stage
load DATA URL CA CALLS AT_ONCE     one load with so many calls in 20 s and at once
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from emulator.marketo.identity import CLIENT_ID, CLIENT_SECRET
from opportunity_sync.data_root import open_data_root
from opportunity_sync.settings import Settings

TABLES = {
    "release": "select 'benchmark' as release_id",
    "accounts": "select null::uuid as account_id, null::varchar as name where false",
    "contacts": """
        select md5('c' || i)::uuid as contact_id, 'Person ' || i as full_name, 'c' || i || '@example.com' as email
        from range($contacts) as numbers(i)
        """,
    "opportunities": """
        select
            md5('o' || i)::uuid as opportunity_id, 'Deal ' || i as name, if(i < $changed, 'Won', 'Open') as state,
            (1000 + i)::decimal(19,4) as amount_base, date '2026-09-01' as close_date, i < $changed as is_closed,
            i < $changed as is_won, 40 as close_probability, timestamp '2026-01-02 03:04:05' as created_at
        from range($opportunities) as numbers(i)
        """,
    "opportunity_contact_roles": """
        select
            md5('o' || (i // 2))::uuid as opportunity_id, md5('c' || ((i * 7) % $contacts))::uuid as contact_id,
            if(i % 2 = 0, 'Champion', 'Decision Maker') as role, 'stakeholder' as role_source, false as is_primary,
            timestamp '2026-02-03 04:05:06' as connected_at
        from range(2 * $opportunities) as numbers(i)
        """,
}


def make(data: Path, opportunities: int, changed: int) -> None:
    """Put a release in the place of the live file."""
    import duckdb

    root = open_data_root(data)
    root.published.mkdir(parents=True, exist_ok=True)
    aside = root.published / "aside.duckdb"
    numbers = {"opportunities": opportunities, "contacts": opportunities // 2, "changed": changed}
    with duckdb.connect(str(aside)) as connection:
        for table, query in TABLES.items():
            used = {name: number for name, number in numbers.items() if f"${name}" in query}
            connection.execute(f"create table {table} as {query}", used)
    aside.replace(root.live_file)


def load(data: Path, url: str, ca_bundle: str, calls: int, at_once: int) -> dict[str, object]:
    """Load the live release; gives what was sent."""
    from opportunity_sync import marketo_load as stage
    from opportunity_sync.marketo.auth import Credentials
    from opportunity_sync.marketo.client import MarketoClient
    from opportunity_sync.marketo.limits import CallLimits

    credentials = Credentials(url, CLIENT_ID, CLIENT_SECRET, ca_bundle)
    with MarketoClient(credentials, limits=CallLimits(calls, at_once), daily_calls=10_000_000) as client:
        return {"sent": stage.load(client, Settings(data=data, marketo_minutes=600)).sent}


def main() -> None:
    """Run one of the two, and print its seconds."""
    command, data, *arguments = sys.argv[1:]
    started = time.monotonic()
    output: dict[str, object] = {}
    if command == "make":
        make(Path(data), *(int(number) for number in arguments))
    else:
        url, ca_bundle, calls, at_once = arguments
        output = load(Path(data), url, ca_bundle, int(calls), int(at_once))
    print(json.dumps({"seconds": time.monotonic() - started, **output}))


if __name__ == "__main__":
    main()
