-- How fresh each source table is in this release. One row per Dataverse table.
with
live_rows as (
    select 'opportunity' as table_name, count(*) as row_count from staging.opportunities
    union all
    select 'connection', count(*) from staging.connections
    union all
    select 'contact', count(*) from staging.contacts
    union all
    select 'account', count(*) from staging.accounts
    union all
    select 'connectionrole', count(*) from staging.connection_roles
),

reads as (
    select
        table_name,
        max(started_at) filter (where continues) as as_of,
        max(batch) as last_batch
    from meta.batches
    group by table_name
)

select
    live_rows.table_name, -- Dataverse table
    live_rows.row_count as rows, -- Live rows of the table, merged ones included
    reads.as_of, -- Every change made in Dynamics before this moment is in this release, UTC
    reads.last_batch -- Newest raw batch applied
from live_rows
left join reads on reads.table_name = live_rows.table_name
