-- What changed in the last seven days?
-- One row per deal and thing that changed: the table as it was seven days before this release (or when the history
-- began) against the table now. A deal that changed twice shows where it started and where it is. Amounts are in the
-- organisation's currency. Every single change of every release, with all columns, is in `release_changes`.
with
week_ago as (
    select greatest(
        (select released_at - interval 7 days from release),
        (select min(released_at) from releases)
    ) as moment
),
opportunities_before as (
    select opportunity_id, name, state, sales_stage, close_date, amount_base, account_id, account_name
    from opportunities_as_of((select moment from week_ago))
),
opportunities_now as (
    select opportunity_id, name, state, sales_stage, close_date, amount_base, account_id, account_name
    from opportunities
),

compared as (
    select
        coalesce(new.opportunity_id, old.opportunity_id) as opportunity_id,
        coalesce(new.name, old.name) as opportunity,
        old.opportunity_id is null as is_new,
        new.opportunity_id is null as is_gone,
        old,
        new
    from opportunities_before as old
    full join opportunities_now as new on new.opportunity_id = old.opportunity_id
),

changes as (
    select opportunity_id, opportunity, 1 as place, 'created' as what, null as before, new.state as after
    from compared
    where is_new
    union all
    select opportunity_id, opportunity, 2, 'deleted', old.state, null
    from compared
    where is_gone
    union all
    select opportunity_id, opportunity, 3, 'state', old.state, new.state
    from compared
    where not is_new and not is_gone and old.state is distinct from new.state
    union all
    select opportunity_id, opportunity, 4, 'sales stage', old.sales_stage, new.sales_stage
    from compared
    where not is_new and not is_gone and old.sales_stage is distinct from new.sales_stage
    union all
    select
        opportunity_id, opportunity, 5, 'close date', cast(old.close_date as varchar), cast(new.close_date as varchar)
    from compared
    where not is_new and not is_gone and old.close_date is distinct from new.close_date
    union all
    select opportunity_id, opportunity, 6, 'amount', cast(old.amount_base as varchar), cast(new.amount_base as varchar)
    from compared
    where not is_new and not is_gone and old.amount_base is distinct from new.amount_base
    union all
    select opportunity_id, opportunity, 7, 'account', old.account_name, new.account_name
    from compared
    where not is_new and not is_gone and old.account_id is distinct from new.account_id
)

select
    opportunity,
    what,
    before,
    after
from changes
order by place, opportunity, opportunity_id
