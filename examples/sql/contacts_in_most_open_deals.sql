-- Which contacts are involved in most open deals?
-- One row per contact. A deal counts once per person, also when the person has several roles in it. The same deal
-- counts for every person in it, so amounts of different contacts must not be added up.
with
open_deals as (select * from opportunities where not is_closed),
people as (select distinct opportunity_id, contact_id from opportunity_contact_roles)

select
    contacts.full_name as contact,
    accounts.name as account,
    count(*) as open_deals,
    sum(open_deals.amount_base) as amount_base,
    count(distinct open_deals.account_id) as accounts_of_these_deals
from open_deals
inner join people on people.opportunity_id = open_deals.opportunity_id
inner join contacts on contacts.contact_id = people.contact_id
left join accounts on accounts.account_id = contacts.account_id
group by contacts.contact_id, contacts.full_name, accounts.name
order by open_deals desc, amount_base desc nulls last, contacts.contact_id
