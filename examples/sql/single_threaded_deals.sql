-- Which open deals depend on one single person?
-- One row per open deal with exactly one contact, however many roles that person has. The largest come first. Where
-- `contact_is_inactive` the contact was deactivated in Dynamics: there may be nobody left to talk to.
with
open_deals as (select * from opportunities where not is_closed),

only_contacts as (
    select
        opportunity_id,
        any_value(contact_id) as contact_id,
        string_agg(role, ', ' order by role) as roles
    from opportunity_contact_roles
    group by opportunity_id
    having count(distinct contact_id) = 1
)

select
    open_deals.name as opportunity,
    open_deals.account_name as account,
    open_deals.amount_base,
    open_deals.estimated_close_date,
    contacts.full_name as contact,
    only_contacts.roles,
    contacts.state_code = 1 as contact_is_inactive
from open_deals
inner join only_contacts on only_contacts.opportunity_id = open_deals.opportunity_id
left join contacts on contacts.contact_id = only_contacts.contact_id
order by open_deals.amount_base desc nulls last, open_deals.opportunity_id
