-- Connections whose effect a change may have touched: changed ones, and those at a changed opportunity or touched contact.
with
changed as (
    select key as id, table_name from meta.changed_keys
    where table_name in ('connection', 'opportunity') and sequence > getvariable('since_sequence')
),

touched_ends as (
    select id from changed where table_name = 'opportunity'
    union
    select id from scope.contacts
)

select id from changed where table_name = 'connection'
union
select connection_id as id from staging.connections semi join touched_ends on touched_ends.id = record1_id
union
select connection_id as id from staging.connections semi join touched_ends on touched_ends.id = record2_id
