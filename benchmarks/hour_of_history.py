"""Continue the history of a release by one hour: `python -m benchmarks.hour_of_history FOLDER ROWS CHANGES`."""

from __future__ import annotations

import json
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import msgspec

from opportunity_sync.history import Derived, write_history
from opportunity_sync.release import Release

ROUNDS = 3
PREVIOUS = """
create table candidate.main.opportunities as
    select
        cast(printf('%08x-0000-4000-8000-%012x', cast(hash(i) % 4294967296 as bigint), i) as uuid) as opportunity_id,
        'Opportunity ' || i as name,
        uuid() as account_id,
        hash(i) % 7 as state_code,
        cast(hash(i) % 1000000 / 100 as decimal(19, 4)) as amount,
        timestamp '2026-01-01' + to_seconds(i) as modified_at,
        repeat(cast(hash(i) as varchar), 5) as description,
        i as version_number
    from range({rows}) as numbers(i);
create table candidate.main.opportunity_contact_roles as
    select opportunity_id, account_id as contact_id, 'Potential Customer' as role, true as is_primary
    from candidate.main.opportunities;
create table candidate.main.contacts as select uuid() as contact_id;
create table candidate.main.accounts as select uuid() as account_id, 'One' as name;
alter table candidate.main.contacts add column full_name varchar;
create table candidate.main.release_changes (
    release_id varchar, released_at timestamp, table_name varchar, key uuid, contact_id uuid, role varchar,
    change varchar, changed_columns varchar[]
);
create table candidate.main.release as
    select 'before' as release_id, timestamp '2026-01-01' as released_at, 'benchmark' as run_id,
        'benchmark' as pipeline_version;
create table candidate.main.expectation_results as
    select 'marts' as suite, 'opportunities' as relation, 'expectation ' || i as expectation,
        cast(null as varchar) as column_name, 'critical' as severity, true as success,
        cast(0 as bigint) as unexpected_count, cast({rows} as bigint) as element_count
    from range(150) as numbers(i);
"""
CHANGE = """
attach ':memory:' as scope;
create table scope.ids as select opportunity_id as id from candidate.main.opportunities using sample {changes} rows;
create table scope.nothing as select * from scope.ids where false;
create table scope.opportunities as
    select * replace (name || '!' as name) from candidate.main.opportunities
    semi join scope.ids as ids on ids.id = opportunity_id;
create table scope.opportunity_contact_roles as
    select * replace (not is_primary as is_primary) from candidate.main.opportunity_contact_roles
    semi join scope.ids as ids on ids.id = opportunity_id;
create table scope.contacts as from candidate.main.contacts where false;
create table scope.accounts as from candidate.main.accounts where false;
begin;
delete from candidate.main.opportunities where opportunity_id in (select id from scope.ids);
delete from candidate.main.opportunity_contact_roles where opportunity_id in (select id from scope.ids);
insert into candidate.main.opportunities from scope.opportunities;
insert into candidate.main.opportunity_contact_roles from scope.opportunity_contact_roles;
"""
RELEASE = Release(
    release_id="before",
    run_id="benchmark",
    started_at=datetime(2026, 1, 1, tzinfo=UTC),
    released_at=datetime(2026, 1, 1, tzinfo=UTC),
    pipeline_version="benchmark",
    built="full",
    sequence=1,
    warehouse_id="benchmark",
    rows={},
)
DERIVED = {
    "opportunities": Derived("opportunity_id", "scope.main.ids", "scope.main.opportunities"),
    "opportunity_contact_roles": Derived("opportunity_id", "scope.main.ids", "scope.main.opportunity_contact_roles"),
    "contacts": Derived("contact_id", "scope.main.nothing", "scope.main.contacts"),
    "accounts": Derived("account_id", "scope.main.nothing", "scope.main.accounts"),
}


def main() -> None:
    """Print the fastest of some rounds, each on a fresh copy."""
    folder, rows, changes = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    previous, candidate = folder / f"previous-{rows}.duckdb", folder / "candidate.duckdb"
    if not previous.exists():
        with duckdb.connect() as connection:
            connection.execute(f"attach '{previous}' as candidate")
            connection.execute(PREVIOUS.format(rows=rows))
            write_history(connection, RELEASE, None)
    seconds, changed = [], 0
    for _ in range(ROUNDS):
        shutil.copyfile(previous, candidate)
        with duckdb.connect() as connection:
            connection.execute(f"attach '{candidate}' as candidate")
            connection.execute(f"attach '{previous}' as previous (read_only)")
            connection.execute(CHANGE.format(changes=changes))
            release = msgspec.structs.replace(RELEASE, release_id="after", released_at=datetime(2026, 1, 2, tzinfo=UTC))
            started = time.perf_counter()
            counts = write_history(connection, release, previous, derived=DERIVED)
            connection.execute("commit")
            seconds.append(time.perf_counter() - started)
            changed = sum(counts.values())
        candidate.unlink()
    print(json.dumps({"seconds": min(seconds), "changed": changed}))


if __name__ == "__main__":
    main()
