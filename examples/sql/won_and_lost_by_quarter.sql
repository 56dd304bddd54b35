-- How many deals were won and lost per quarter, and what were they worth?
-- One row per calendar quarter of the close date, newest first; the quarter of the release is not over yet. Won deals
-- count with their realised value, lost ones with what was estimated, both in the organisation's currency. The win rate
-- is won deals among closed ones. `close_date` falls back to the estimated date where nobody entered the actual one.
with
closed_deals as (select * from opportunities where is_closed)

select
    coalesce(year(close_date) || '-Q' || quarter(close_date), '(no date)') as quarter,
    count(*) filter (where is_won) as won,
    count(*) filter (where not is_won) as lost,
    round(100.0 * count(*) filter (where is_won) / count(*), 1) as win_rate_percent,
    sum(amount_base) filter (where is_won) as won_amount_base,
    sum(amount_base) filter (where not is_won) as lost_amount_base,
    count(*) - count(amount_base) as deals_without_amount
from closed_deals
group by quarter
order by quarter desc
