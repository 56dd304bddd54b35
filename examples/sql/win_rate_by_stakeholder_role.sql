-- Are deals won more often when a stakeholder of a certain role is involved?
-- One row per role: closed deals in which at least one stakeholder has it, against all other closed deals. A deal
-- counts once per role however many people have that role, and once in every role it has: do not add the rows up. The
-- difference is in percentage points. It is no proof of a cause: deals that live longer collect more roles. Few deals
-- mean little.
with
closed_deals as (select * from opportunities where is_closed),
stakeholder_roles as (
    select distinct opportunity_id, role from opportunity_contact_roles where role_source = 'stakeholder'
),

all_deals as (
    select
        count(*) as deals,
        count(*) filter (where is_won) as won
    from closed_deals
),

with_role as (
    select
        stakeholder_roles.role,
        count(*) as deals,
        count(*) filter (where closed_deals.is_won) as won
    from closed_deals
    inner join stakeholder_roles on stakeholder_roles.opportunity_id = closed_deals.opportunity_id
    group by stakeholder_roles.role
),

rates as (
    select
        with_role.role,
        with_role.deals as deals_with_role,
        all_deals.deals - with_role.deals as deals_without_role,
        100.0 * with_role.won / with_role.deals as with_it,
        100.0 * (all_deals.won - with_role.won) / nullif(all_deals.deals - with_role.deals, 0) as without_it
    from with_role
    cross join all_deals
)

select
    role,
    deals_with_role,
    deals_without_role,
    round(with_it, 1) as win_rate_with_role,
    round(without_it, 1) as win_rate_without_role,
    round(with_it - without_it, 1) as difference
from rates
order by difference desc nulls last, role
