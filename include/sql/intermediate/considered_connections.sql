-- Every end of an opportunity's connections, with what keeps it from giving a contact role (rules 3.3 to 3.12).
-- One row per connection row and opportunity end.
with
connections as (select * from staging.connections),
connection_roles as (select * from staging.connection_roles),
contacts as (select contact_id from staging.contacts where not is_merged),
contact_survivors as (select * from intermediate.contact_survivors),

sides as (
    select
        connection_id,
        record1_id as opportunity_id,
        'record2' as other_side,
        record2_type as other_type,
        record2_id as other_id,
        record2_role_id as connection_role_id,
        state_code,
        effective_start,
        effective_end,
        created_at,
        raw_batch,
        read_at
    from connections
    where record1_type = 'opportunity' and record1_id is not null
    union all
    select
        connection_id,
        record2_id as opportunity_id,
        'record1' as other_side,
        record1_type as other_type,
        record1_id as other_id,
        record1_role_id as connection_role_id,
        state_code,
        effective_start,
        effective_end,
        created_at,
        raw_batch,
        read_at
    from connections
    where record2_type = 'opportunity' and record2_id is not null
),

resolved as (
    select
        sides.*,
        case
            when sides.other_type = 'contact' then coalesce(contact_survivors.survivor_id, sides.other_id)
        end as contact_id,
        connection_roles.name as role_name,
        connection_roles.category,
        sides.connection_role_id is not null and connection_roles.connection_role_id is null as is_role_unknown
    from sides
    left join contact_survivors
        on sides.other_type = 'contact' and contact_survivors.contact_id = sides.other_id
    left join connection_roles on connection_roles.connection_role_id = sides.connection_role_id
),

judged as (
    select
        *,
        case
            when contact_id is null then 'other_end_is_no_contact'
            when coalesce(state_code, 0) <> 0 then 'inactive'
            when effective_start > getvariable('today') then 'not_yet_effective'
            when effective_end < getvariable('today') then 'ended'
            when connection_role_id is null and getvariable('role_when_missing') is null then 'no_role'
            when
                connection_role_id is not null
                and not is_role_unknown
                and not coalesce(list_contains(getvariable('stakeholder_categories'), category), false)
                then 'other_category'
        end as obstacle,
        case when connection_role_id is null then getvariable('role_when_missing') else role_name end as role
    from resolved
)

select
    judged.connection_id, -- Dataverse connectionid
    judged.opportunity_id, -- The opportunity at one end, as stored
    judged.other_side, -- Which end of the connection the other row is: record1 or record2
    judged.other_type, -- Table of the row at the other end
    judged.other_id, -- The row at the other end, as stored
    judged.contact_id, -- The same after merges, when it is a contact
    contacts.contact_id is not null as is_contact_known, -- True when that contact is a row of contacts
    judged.connection_role_id, -- Role on the side of the other row
    judged.role, -- Role text; empty when there is none or the connection role is not among the extracted ones
    judged.category, -- Category of the connection role
    judged.is_role_unknown, -- True when the connection role is not among the extracted ones
    judged.obstacle, -- What keeps it from giving a role by itself; empty: nothing does
    case
        when judged.obstacle is null and judged.role is not null and contacts.contact_id is not null
            then row_number() over (
                partition by judged.opportunity_id, judged.contact_id, judged.role, judged.obstacle
                order by judged.created_at nulls last, judged.connection_id
            )
    end as position, -- 1 for the oldest connection that gives this role; empty when it gives none
    judged.created_at, -- When the connection was made, UTC
    judged.raw_batch, -- Raw batch that brought the connection
    judged.read_at -- When it was read, UTC
from judged
left join contacts on contacts.contact_id = judged.contact_id
