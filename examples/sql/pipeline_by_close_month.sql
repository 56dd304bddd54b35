-- When is the open pipeline expected to close, and how much of it is likely to come in?
-- One row per month of the estimated close date, the latest first. `weighted_amount_base` is amount times close
-- probability; a deal that lacks either is missing from it and counted in `deals_not_weighted`. A deal is overdue when
-- its date was before the day of the release: such amounts will not come in that month any more, whatever their
-- probability says.
with
open_deals as (select * from opportunities where not is_closed),
release_day as (select cast(released_at as date) as day from release)

select
    coalesce(strftime(open_deals.estimated_close_date, '%Y-%m'), '(no date)') as close_month,
    count(*) as deals,
    count(*) filter (where open_deals.estimated_close_date < release_day.day) as overdue_deals,
    sum(open_deals.amount_base) as amount_base,
    cast(sum(open_deals.amount_base * open_deals.close_probability) / 100 as decimal(18, 2)) as weighted_amount_base,
    count(*) filter (
        where open_deals.amount_base is null or open_deals.close_probability is null
    ) as deals_not_weighted
from open_deals
cross join release_day
group by close_month
order by close_month desc
