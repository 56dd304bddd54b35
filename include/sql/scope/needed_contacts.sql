-- Contacts needed to derive the touched rows: touched ones, customers and connected contacts, and where merges lead.
with recursive
connections as (
    select record1_id, record2_id
    from staging.connections as connections
    semi join scope.needed_connections as needed on needed.id = connections.connection_id
),

referenced as (
    select id from scope.contacts
    union
    select customer_id from staging.opportunities as opportunities
    semi join scope.opportunities as touched on touched.id = opportunities.opportunity_id
    union
    select record1_id from connections
    union
    select record2_id from connections
),

needed as (
    select id from referenced
    union
    select contacts.master_id from needed
    inner join staging.contacts as contacts on contacts.contact_id = needed.id and contacts.is_merged
)

select id
from needed
