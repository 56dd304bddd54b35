-- Contacts needed to derive the touched rows: touched ones, customers and connected contacts, and where merges lead.
with recursive
referenced as (
    select id from scope.contacts
    union
    select customer_id from scope.opportunities
    union
    select record1_id from scope.needed_connections
    union
    select record2_id from scope.needed_connections
),

needed as (
    select id from referenced
    union
    select contacts.master_id from needed
    inner join staging.contacts as contacts on contacts.contact_id = needed.id and contacts.is_merged
)

select id
from needed
where id is not null
