-- Contacts whose output rows a change may have touched: changed ones, those of touched accounts, and all that were
-- merged into them.
with recursive
directly_touched as (
    select key as id from meta.changed_keys
    where table_name = 'contact' and sequence > getvariable('since_sequence')
    union
    select contact_id as id
    from staging.contacts as contacts
    semi join scope.accounts as accounts on accounts.id = contacts.parent_customer_id
),

touched as (
    select id from directly_touched
    union
    select contacts.contact_id from touched
    inner join staging.contacts as contacts on contacts.master_id = touched.id and contacts.is_merged
)

select id
from touched
