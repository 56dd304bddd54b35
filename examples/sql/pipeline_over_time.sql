-- How did the open pipeline develop?
-- One row per release that changed it, with the open pipeline as that release showed it; it stays the same until the
-- next row. Begins with the first release of the history. Amounts are in the organisation's currency.
with
versions as (select * from opportunities_history where not is_closed),

steps as (
    select valid_from as moment, 1 as deals, coalesce(amount_base, 0) as amount_base
    from versions
    union all
    select valid_to, -1, -coalesce(amount_base, 0)
    from versions
    where valid_to is not null
)

select
    moment as released_at,
    cast(sum(sum(deals)) over (order by moment) as bigint) as open_deals,
    sum(sum(amount_base)) over (order by moment) as amount_base
from steps
group by moment
order by moment
