-- Which open deals keep moving their close date?
-- One row per open deal whose estimated close date was moved to a later day at least once since the history began.
-- `days_slipped` is from the first date we saw to the present one, so a date that was also moved back counts net. Two
-- moves between two releases are one.
with
versions as (select * from opportunities_history where not is_closed),
open_deals as (select * from opportunities where not is_closed),

dated as (
    select
        opportunity_id,
        valid_from,
        estimated_close_date,
        lag(estimated_close_date) over (partition by opportunity_id order by valid_from) as date_before
    from versions
    where estimated_close_date is not null
),

slips as (
    select
        opportunity_id,
        count(*) filter (where estimated_close_date > date_before) as times_moved_later,
        arg_min(estimated_close_date, valid_from) as first_date
    from dated
    group by opportunity_id
)

select
    open_deals.name as opportunity,
    open_deals.account_name as account,
    open_deals.amount_base,
    slips.times_moved_later,
    slips.first_date,
    open_deals.estimated_close_date as date_now,
    open_deals.estimated_close_date - slips.first_date as days_slipped
from open_deals
inner join slips on slips.opportunity_id = open_deals.opportunity_id
where slips.times_moved_later > 0
order by slips.times_moved_later desc, days_slipped desc nulls last, open_deals.opportunity_id
