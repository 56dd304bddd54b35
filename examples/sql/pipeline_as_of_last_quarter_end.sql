-- What did we believe at the end of last quarter, and what became of it?
-- One row per sales stage that deals had then: the pipeline as the release showed it that was live at that moment
-- (UTC), and the state of the same deals now. Amounts are in the organisation's currency; `won_amount_base` is what was
-- realised. A deal that was deleted since is `gone`. Empty when the history began later than that.
with
quarter_end as (select date_trunc('quarter', released_at) - interval 1 microsecond as moment from release),
believed as (
    select * from opportunities_as_of((select moment from quarter_end)) where not is_closed
),
opportunities_now as (select * from opportunities)

select
    (select strftime(moment, '%Y-%m-%d') from quarter_end) as as_of,
    coalesce(believed.sales_stage, '(no stage)') as sales_stage_then,
    count(*) as deals_then,
    sum(believed.amount_base) as amount_base_then,
    count(*) filter (where opportunities_now.is_won) as won,
    count(*) filter (where opportunities_now.is_closed and not opportunities_now.is_won) as lost,
    count(*) filter (where not opportunities_now.is_closed) as still_open,
    count(*) - count(opportunities_now.opportunity_id) as gone,
    sum(opportunities_now.amount_base) filter (where opportunities_now.is_won) as won_amount_base
from believed
left join opportunities_now on opportunities_now.opportunity_id = believed.opportunity_id
group by believed.sales_stage_code, sales_stage_then
order by believed.sales_stage_code nulls last
