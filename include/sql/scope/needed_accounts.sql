-- Accounts needed to derive the touched rows: touched ones, customers, accounts of needed contacts, and where merges lead.
with recursive
referenced as (
    select id from scope.accounts
    union
    select customer_id from scope.opportunities
    union
    select parent_customer_id from staging.contacts as contacts
    semi join scope.needed_contacts as needed on needed.id = contacts.contact_id
),

needed as (
    select id from referenced
    union
    select accounts.master_id from needed
    inner join staging.accounts as accounts on accounts.account_id = needed.id and accounts.is_merged
)

select id
from needed
where id is not null
