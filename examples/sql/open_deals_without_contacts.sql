-- Which open deals have no contact at all?
-- One row per open deal that has no row in `opportunity_contact_roles`: neither is its customer a contact that we know,
-- nor is a stakeholder connected to it. The largest come first. `account_rule` says what is known about the customer.
with
open_deals as (select * from opportunities where not is_closed),
release_day as (select cast(released_at as date) as day from release)

select
    open_deals.name as opportunity,
    open_deals.account_name as account,
    open_deals.account_rule,
    open_deals.sales_stage,
    open_deals.amount_base,
    release_day.day - cast(open_deals.created_at as date) as days_open
from open_deals
cross join release_day
anti join opportunity_contact_roles as roles on roles.opportunity_id = open_deals.opportunity_id
order by open_deals.amount_base desc nulls last, open_deals.opportunity_id
