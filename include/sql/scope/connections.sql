-- Connections whose effect a change may have touched, with their ends: changed ones, those that began or ended since the
-- day of the live release, and those at a changed opportunity or touched contact. Changed ones that are gone have no ends.
with
changed as (
    select key as id from meta.changed_keys
    where table_name = 'connection' and sequence > getvariable('since_sequence')
    union
    select connection_id from staging.connections
    where
        (effective_start > getvariable('live_day') and effective_start <= getvariable('today'))
        or (effective_end >= getvariable('live_day') and effective_end < getvariable('today'))
),

touched_ends as (
    select key as id from meta.changed_keys
    where table_name = 'opportunity' and sequence > getvariable('since_sequence')
    union
    select id from scope.contacts
),

touched as (
    select
        connection_id as id,
        record1_id,
        record1_type,
        record2_id,
        record2_type
    from staging.connections
    where
        connection_id in (select id from changed)
        or record1_id in (select id from touched_ends)
        or record2_id in (select id from touched_ends)
)

select * from touched
union all
select
    changed.id,
    null as record1_id,
    null as record1_type,
    null as record2_id,
    null as record2_type
from changed
anti join touched on touched.id = changed.id
