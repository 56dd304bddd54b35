-- Where references to a merged account lead: masterid followed step by step (rule 1.5). One row per merged account.
with recursive
accounts as (select * from staging.accounts),

walk as (
    select
        account_id,
        account_id as reached_id,
        master_id as next_id,
        true as reached_is_merged,
        [account_id] as path
    from accounts
    where is_merged
    union all
    select
        walk.account_id,
        accounts.account_id,
        accounts.master_id,
        accounts.is_merged,
        list_append(walk.path, accounts.account_id)
    from walk
    inner join accounts on accounts.account_id = walk.next_id
    where walk.reached_is_merged and not list_contains(walk.path, walk.next_id)
),

numbered as (
    select
        *,
        row_number() over (partition by account_id order by len(path) desc) as steps_from_end
    from walk
)

select
    account_id, -- The merged account
    reached_id as survivor_id, -- The last row found
    not reached_is_merged as is_resolved, -- False when the walk ended at a merged row: missing master or a cycle
    case when reached_is_merged then next_id end as unreached_id, -- The id the walk could not go on to
    path -- The rows followed, from the merged one to the survivor
from numbered
where steps_from_end = 1
