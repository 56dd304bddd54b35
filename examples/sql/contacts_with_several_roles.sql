-- Who has more than one role in the same open deal?
-- One row per deal and person. Such people are several rows in `opportunity_contact_roles`: to count people, count
-- distinct contacts; to count deals, count distinct deals. `is_customer` is true when the person is also the customer
-- of the deal, which is the one row per deal with `is_primary`.
with
open_deals as (select * from opportunities where not is_closed),

people as (
    select
        opportunity_id,
        contact_id,
        string_agg(role, ', ' order by is_primary desc, role) as roles,
        bool_or(is_primary) as is_customer,
        count(*) as number_of_roles
    from opportunity_contact_roles
    group by opportunity_id, contact_id
    having count(*) > 1
)

select
    open_deals.name as opportunity,
    contacts.full_name as contact,
    people.roles,
    people.is_customer
from people
inner join open_deals on open_deals.opportunity_id = people.opportunity_id
inner join contacts on contacts.contact_id = people.contact_id
order by people.number_of_roles desc, open_deals.name, people.opportunity_id, people.contact_id
