-- Opportunities whose output rows a change may have touched, with their customer: changed ones, those of a touched
-- customer, and those at touched connections. One that is not live has no customer.
with
changed as (
    select key as id from meta.changed_keys
    where table_name = 'opportunity' and sequence > getvariable('since_sequence')
    union
    select record1_id as id from scope.connections where record1_type = 'opportunity'
    union
    select record2_id as id from scope.connections where record2_type = 'opportunity'
),

touched_customers as (
    select id from scope.contacts
    union
    select id from scope.accounts
),

touched as (
    select
        opportunity_id as id,
        customer_id
    from staging.opportunities
    where
        opportunity_id in (select id from changed)
        or customer_id in (select id from touched_customers)
)

select * from touched
union all
select
    changed.id,
    null as customer_id
from changed
anti join touched on touched.id = changed.id
