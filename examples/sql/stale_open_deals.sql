-- Which open deals has nobody touched for ninety days?
-- One row per open deal that was last modified in Dynamics more than ninety days before this release, the longest
-- first. `modified_at` also moves when an import or a workflow writes, so the true list can be longer, never shorter.
with
open_deals as (select * from opportunities where not is_closed),
release_moment as (select released_at from release)

select
    open_deals.name as opportunity,
    open_deals.account_name as account,
    open_deals.sales_stage,
    open_deals.amount_base,
    open_deals.estimated_close_date,
    cast(release_moment.released_at as date) - cast(open_deals.modified_at as date) as days_untouched
from open_deals
cross join release_moment
where open_deals.modified_at < release_moment.released_at - interval 90 days
order by days_untouched desc, open_deals.opportunity_id
