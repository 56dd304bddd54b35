-- Connections that may give a contact role: active on the run's day, between an opportunity and a contact, with a role
-- on the contact's side that counts or is not known (rules 3.3 to 3.8). One row per connection row and contact side.
with
connections as (
    select *
    from staging.connections
    where
        coalesce(state_code, 0) = 0
        and (effective_start is null or effective_start <= getvariable('today'))
        and (effective_end is null or effective_end >= getvariable('today'))
),

connection_roles as (select * from staging.connection_roles),
contact_survivors as (select * from intermediate.contact_survivors),

sides as (
    select
        connection_id,
        'record2' as contact_side,
        record1_id as opportunity_id,
        record2_id as contact_id,
        record2_role_id as connection_role_id,
        created_at
    from connections
    where record1_type = 'opportunity' and record2_type = 'contact'
    union all
    select
        connection_id,
        'record1' as contact_side,
        record2_id as opportunity_id,
        record1_id as contact_id,
        record1_role_id as connection_role_id,
        created_at
    from connections
    where record2_type = 'opportunity' and record1_type = 'contact'
)

select
    sides.connection_id, -- Dataverse connectionid
    sides.contact_side, -- Which end of the connection the contact is: record1 or record2
    sides.opportunity_id, -- The opportunity, as stored
    coalesce(contact_survivors.survivor_id, sides.contact_id) as contact_id, -- The contact after merges
    sides.connection_role_id, -- Role on the contact's side
    case when sides.connection_role_id is null then getvariable('role_when_missing') else connection_roles.name end
        as role, -- Role text; empty when the connection role is not among the extracted ones
    sides.connection_role_id is not null and connection_roles.connection_role_id is null
        as is_role_unknown, -- True when the connection role is not among the extracted ones
    sides.created_at -- When the connection was made, UTC
from sides
left join connection_roles on connection_roles.connection_role_id = sides.connection_role_id
left join contact_survivors on contact_survivors.contact_id = sides.contact_id
where
    case
        when sides.connection_role_id is null then getvariable('role_when_missing') is not null
        when connection_roles.connection_role_id is null then true
        else list_contains(getvariable('stakeholder_categories'), connection_roles.category)
    end
