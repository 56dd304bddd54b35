-- The potential customer of each opportunity after merges, and the account rule it leads to (rules section 2).
-- One row per live opportunity.
with
opportunities as (select * from staging.opportunities),
contacts as (select * from staging.contacts),
contact_survivors as (select * from intermediate.contact_survivors),
account_survivors as (select * from intermediate.account_survivors),

resolved as (
    select
        opportunities.opportunity_id,
        opportunities.customer_type,
        case opportunities.customer_type
            when 'contact' then coalesce(contact_survivors.survivor_id, opportunities.customer_id)
            when 'account' then coalesce(account_survivors.survivor_id, opportunities.customer_id)
            else opportunities.customer_id
        end as customer_id
    from opportunities
    left join contact_survivors
        on opportunities.customer_type = 'contact' and contact_survivors.contact_id = opportunities.customer_id
    left join account_survivors
        on opportunities.customer_type = 'account' and account_survivors.account_id = opportunities.customer_id
)

select
    resolved.opportunity_id, -- Dataverse opportunityid
    resolved.customer_id, -- The potential customer after merges
    resolved.customer_type, -- account or contact, or another table that Dynamics lets a customer be
    case
        when resolved.customer_id is null then 'no_customer'
        when resolved.customer_type = 'account' then 'customer_is_account'
        when resolved.customer_type not in ('account', 'contact') then 'customer_of_another_type'
        when contacts.contact_id is null then 'customer_contact_missing'
        when contacts.parent_customer_type = 'account' and contacts.parent_customer_id is not null
            then 'account_of_customer_contact'
        else 'customer_contact_has_no_account'
    end as account_rule, -- The rule that decided the account
    case
        when resolved.customer_type = 'account' then resolved.customer_id
        when contacts.parent_customer_type = 'account'
            then coalesce(account_survivors.survivor_id, contacts.parent_customer_id)
    end as account_id, -- The account, also when it is not among the extracted accounts
    coalesce(not contacts.is_merged, false) as is_known_contact -- True when the customer is a row of contacts
from resolved
left join contacts on resolved.customer_type = 'contact' and contacts.contact_id = resolved.customer_id
left join account_survivors
    on contacts.parent_customer_type = 'account' and account_survivors.account_id = contacts.parent_customer_id
