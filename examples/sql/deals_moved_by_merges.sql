-- Which deals are counted elsewhere because their customer was merged?
-- One row per deal whose customer, or whose customer's account, was merged into another row in Dynamics: the sync
-- follows it to the row that survived. Look here when the numbers of an account changed although nobody touched its
-- deals.
with
contacts_of_merged_accounts as (
    select contact_id, merged_account_id from contacts where merged_account_id is not null
)

select
    opportunities.name as opportunity,
    opportunities.state,
    opportunities.amount_base,
    case
        when opportunities.merged_customer_id is null then 'account of the customer'
        else 'customer (' || opportunities.customer_type || ')'
    end as merged,
    coalesce(opportunities.merged_customer_id, contacts.merged_account_id) as merged_id,
    opportunities.account_name as account_now
from opportunities
left join contacts_of_merged_accounts as contacts
    on opportunities.customer_type = 'contact' and contacts.contact_id = opportunities.customer_id
where opportunities.merged_customer_id is not null or contacts.contact_id is not null
order by merged, opportunities.amount_base desc nulls last, opportunities.opportunity_id
