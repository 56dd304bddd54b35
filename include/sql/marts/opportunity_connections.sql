-- Every connection considered for contact roles, and what became of it. One row per connection row and opportunity end;
-- Dataverse stores each connection twice, once from either end.
with
opportunities as (select opportunity_id from staging.opportunities),
customers as (select * from intermediate.customers where customer_type = 'contact' and is_known_contact),
connections as (select * from intermediate.considered_connections)

select
    connections.opportunity_id, -- The opportunity
    connections.connection_id, -- Dataverse connectionid
    connections.other_type, -- Table of the row at the other end
    connections.other_id, -- The row at the other end, as stored
    connections.contact_id, -- The contact at the other end, after merges; empty when it is no contact
    connections.connection_role_id, -- Role on the side of the other row
    connections.role, -- Role text it gives or would give
    case
        when connections.obstacle is not null then connections.obstacle
        when connections.is_role_unknown then 'unknown_role'
        when connections.role is null then 'role_without_name'
        when not connections.is_contact_known then 'unknown_contact'
        when customers.customer_id is not null then 'same_as_customer_role'
        when connections.position > 1 then 'repeats_another'
        else 'gives_role'
    end as outcome, -- gives_role, or why not: other_end_is_no_contact, inactive, not_yet_effective, ended, no_role, other_category, unknown_role, role_without_name, unknown_contact, same_as_customer_role, repeats_another (its mirror row, or a later one)
    connections.created_at, -- When the connection was made, UTC
    connections.raw_batch, -- Raw batch that brought the connection
    connections.read_at -- When it was read from Dynamics, UTC
from connections
semi join opportunities on opportunities.opportunity_id = connections.opportunity_id
left join customers
    on
        customers.opportunity_id = connections.opportunity_id
        and customers.customer_id = connections.contact_id
        and connections.role = getvariable('customer_role')
