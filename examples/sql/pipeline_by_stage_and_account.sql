-- How much open pipeline does each account have, and in which sales stage?
-- One row per account and sales stage, the largest account first. Amounts are `amount_base`, the organisation's
-- currency, so deals in different currencies may be added up. A deal without an amount counts in `deals` but adds
-- nothing to the amounts: `deals_without_amount` says how many those are. Accounts are told apart by id, because two
-- can have the same name.
with
open_deals as (select * from opportunities where not is_closed),

by_stage as (
    select
        account_id,
        case
            when account_id is null then '(no account)' else coalesce(account_name, '(account not extracted)')
        end as account,
        sales_stage_code,
        sales_stage,
        count(*) as deals,
        sum(amount_base) as amount_base,
        count(*) - count(amount_base) as deals_without_amount
    from open_deals
    group by all
)

select
    account,
    coalesce(sales_stage, '(no stage)') as sales_stage,
    deals,
    amount_base,
    deals_without_amount,
    sum(amount_base) over (partition by account_id) as account_amount_base
from by_stage
order by account_amount_base desc nulls last, account, account_id, sales_stage_code nulls last
