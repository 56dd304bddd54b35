-- Accounts whose output rows a change may have touched: changed ones and all that were merged into them.
with recursive
touched as (
    select key as id from meta.changed_keys
    where table_name = 'account' and sequence > getvariable('since_sequence')
    union
    select accounts.account_id from touched
    inner join staging.accounts as accounts on accounts.master_id = touched.id and accounts.is_merged
)

select id
from touched
