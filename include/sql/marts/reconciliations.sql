-- What the newest reconciliation found and repaired, in rows. One row per Dataverse table that was reconciled.
with
reconciliations as (select * from meta.reconciliations)

select
    table_name, -- Dataverse table
    swept_at, -- When the sweep of the table's ids began, UTC
    checked, -- Rows that Dynamics listed
    missing, -- Listed by Dynamics, but not known here
    gone, -- Known here, but no longer in Dynamics
    stale, -- Known here in an older version than the one in Dynamics
    repaired, -- Read again, or taken out of the outputs: these rows are right in this release
    batch -- Raw batch that brought the repairs
from reconciliations
qualify row_number() over (partition by table_name order by swept_at desc, batch desc) = 1
