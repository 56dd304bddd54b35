-- How much of the open pipeline is in foreign currency?
-- One row per currency of the deals. `amount` is in that currency and must never be added up across rows; `amount_base`
-- is the same in the organisation's currency, with the exchange rate that Dynamics stored on each deal, and may be.
-- `units_per_base_unit` helps to recognise a currency: Dynamics gives its id, and the one with exactly 1 is the
-- organisation's own.
with
open_deals as (select * from opportunities where not is_closed)

select
    currency_id,
    count(*) as deals,
    sum(amount) as amount,
    sum(amount_base) as amount_base,
    round(sum(amount) / sum(amount_base), 4) as units_per_base_unit,
    round(100.0 * sum(amount_base) / sum(sum(amount_base)) over (), 1) as percent_of_pipeline
from open_deals
group by currency_id
order by amount_base desc nulls last, currency_id
