-- Who is involved in which deal, and as what. One row per opportunity, contact and role.
with
opportunities as (select opportunity_id from staging.opportunities),

customer_roles as (
    select
        opportunity_id,
        customer_id as contact_id,
        getvariable('customer_role') as role
    from intermediate.customers
    where customer_type = 'contact' and is_known_contact
),

stakeholder_roles as (
    select
        connections.opportunity_id,
        connections.contact_id,
        connections.role,
        connections.created_at as connected_at,
        connections.connection_role_id
    from intermediate.stakeholder_connections as connections
    semi join opportunities on opportunities.opportunity_id = connections.opportunity_id
    where connections.position = 1
)

select
    coalesce(customer_roles.opportunity_id, stakeholder_roles.opportunity_id) as opportunity_id, -- The opportunity
    coalesce(customer_roles.contact_id, stakeholder_roles.contact_id) as contact_id, -- The contact, after merges
    coalesce(customer_roles.role, stakeholder_roles.role) as role, -- Role text: the connection role's name, or the configured text for the potential customer
    case when customer_roles.role is not null then 'customer' else 'stakeholder' end as role_source, -- customer: from customerid; stakeholder: from a connection
    customer_roles.role is not null as is_primary, -- True for the potential customer; at most one row per opportunity
    stakeholder_roles.connection_role_id, -- Connection role of the oldest such connection; empty for the potential customer
    stakeholder_roles.connected_at -- When the oldest such connection was made, UTC; empty for the potential customer
from customer_roles
full join stakeholder_roles
    on
        stakeholder_roles.opportunity_id = customer_roles.opportunity_id
        and stakeholder_roles.contact_id = customer_roles.contact_id
        and stakeholder_roles.role = customer_roles.role
