-- Opportunities with their account and the rule that decided it. One row per live opportunity.
with
opportunities as (select * from staging.opportunities),
customers as (select * from intermediate.customers),
accounts as (select * from staging.accounts where not is_merged)

select
    opportunities.opportunity_id, -- Key: Dataverse opportunityid
    opportunities.name, -- Topic of the opportunity
    customers.account_id, -- Account of the opportunity, after merges; kept when the account itself was not extracted
    accounts.name as account_name, -- Name of the account; empty with an account_id: that account was not extracted
    customers.account_rule, -- Why account_id is what it is: customer_is_account, account_of_customer_contact, customer_contact_has_no_account, customer_contact_missing, customer_of_another_type or no_customer
    customers.customer_id, -- Potential customer after merges: an account or a contact
    opportunities.customer_type, -- Table of the potential customer: account or contact
    opportunities.state_code, -- 0 Open, 1 Won, 2 Lost
    opportunities.state, -- Label of state_code
    opportunities.status_code, -- Reason for the state
    opportunities.status, -- Label of status_code
    opportunities.state_code <> 0 as is_closed, -- True when won or lost
    opportunities.state_code = 1 as is_won, -- True when won
    case
        when opportunities.state_code = 1 then coalesce(opportunities.actual_value, opportunities.estimated_value)
        else opportunities.estimated_value
    end as amount, -- Realised value when won and present, else estimated value; in the opportunity's currency
    case
        when opportunities.state_code = 1
            then coalesce(opportunities.actual_value_base, opportunities.estimated_value_base)
        else opportunities.estimated_value_base
    end as amount_base, -- The same in the organisation's currency: the one to add up
    opportunities.estimated_value, -- Estimated value in the opportunity's currency
    opportunities.actual_value, -- Realised value in the opportunity's currency
    opportunities.currency_id, -- Currency of the values
    opportunities.estimated_close_date, -- Day the deal is expected to close
    opportunities.actual_close_date, -- Day the deal was closed
    case
        when opportunities.state_code <> 0
            then coalesce(opportunities.actual_close_date, opportunities.estimated_close_date)
        else opportunities.estimated_close_date
    end as close_date, -- Actual close date when closed and present, else estimated close date
    opportunities.close_probability, -- Percent, 0 to 100
    opportunities.sales_stage_code, -- Sales stage
    opportunities.sales_stage, -- Label of sales_stage_code
    opportunities.owner_id, -- User or team that owns the opportunity
    opportunities.owner_type, -- systemuser or team
    opportunities.created_at, -- UTC
    opportunities.modified_at, -- UTC
    opportunities.version_number, -- Row version of Dataverse; grows with every write
    case
        when customers.customer_id <> opportunities.customer_id then opportunities.customer_id
    end as merged_customer_id, -- Potential customer as stored, when that row was merged into customer_id; else empty
    opportunities.* exclude (
        opportunity_id, name, customer_id, customer_type, state_code, state, status_code, status, estimated_value,
        actual_value, estimated_value_base, actual_value_base, currency_id, estimated_close_date, actual_close_date,
        close_probability, sales_stage_code, sales_stage, owner_id, owner_type, created_at, modified_at, version_number,
        raw_batch, read_at
    ) -- Additional columns of include/tables.yaml, under their Dataverse names
from opportunities
inner join customers on customers.opportunity_id = opportunities.opportunity_id
left join accounts on accounts.account_id = customers.account_id
