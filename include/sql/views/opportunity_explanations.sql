-- Why each opportunity has its account and its contact roles, step by step; ask for one opportunity_id at a time.
-- One row per opportunity and step.
with
opportunities as (select * from main.opportunities),
contacts as (select * from main.contacts),
accounts as (select * from main.accounts),
merged_accounts as (select * from main.merged_accounts),
merged_contacts as (select * from main.merged_contacts),
connections as (select * from main.opportunity_connections),
roles as (select * from main.opportunity_contact_roles),
sources as (select * from main.row_sources),

customers as (
    select
        opportunities.*,
        coalesce(opportunities.merged_customer_id, opportunities.customer_id) as stored_customer_id,
        contacts.contact_id is not null as is_known_contact,
        coalesce(contacts.merged_account_id, contacts.account_id) as stored_account_id,
        contacts.merged_account_id,
        contacts.parent_contact_id
    from opportunities
    left join contacts
        on opportunities.customer_type = 'contact' and contacts.contact_id = opportunities.customer_id
),

opportunity_rows as (
    select
        opportunity_id,
        1 as step,
        'opportunity' as topic,
        'opportunities' as relation,
        opportunity_id as id,
        'read' as outcome,
        case
            when customer_id is null then 'customerid is empty'
            else 'customerid is ' || customer_type || ' ' || stored_customer_id
        end as explanation
    from customers
),

merge_paths as (
    select
        customers.opportunity_id,
        2 as step,
        'contacts' as relation,
        merged_contacts.path,
        merged_contacts.is_resolved
    from customers
    inner join merged_contacts
        on
            customers.customer_type = 'contact'
            and merged_contacts.contact_id = customers.stored_customer_id
    union all
    select
        customers.opportunity_id,
        2,
        'accounts',
        merged_accounts.path,
        merged_accounts.is_resolved
    from customers
    inner join merged_accounts
        on
            customers.customer_type = 'account'
            and merged_accounts.account_id = customers.stored_customer_id
    union all
    select
        customers.opportunity_id,
        4,
        'accounts',
        merged_accounts.path,
        merged_accounts.is_resolved
    from customers
    inner join merged_accounts on merged_accounts.account_id = customers.merged_account_id
),

merge_steps as (
    select
        *,
        unnest(range(1, len(path) + 1)) as position
    from merge_paths
),

merge_rows as (
    select
        opportunity_id,
        step,
        'merge' as topic,
        relation,
        path[position] as id,
        case
            when position < len(path) then 'followed' when is_resolved then 'survivor' else 'leads_nowhere'
        end as outcome,
        case
            when position < len(path) then 'was merged into ' || path[position + 1]
            when is_resolved then 'is the surviving row'
            else 'was merged into a row that is missing, or in a circle; the walk ends here'
        end as explanation,
        position
    from merge_steps
),

customer_rows as (
    select
        opportunity_id,
        3 as step,
        'customer' as topic,
        customer_type || 's' as relation,
        customer_id as id,
        case
            when customer_type not in ('account', 'contact') then 'not_extracted'
            when customer_type = 'account' and account_name is null then 'not_extracted'
            when customer_type = 'contact' and not is_known_contact then 'not_extracted'
            else 'known'
        end as outcome,
        case
            when customer_type not in ('account', 'contact')
                then 'a row of ' || customer_type || ' gives neither an account nor a contact role'
            when customer_type = 'contact' and not is_known_contact
                then 'the contact is not a row of contacts: it gives no account and no contact role'
            when customer_type = 'contact' and stored_account_id is not null
                then 'the contact belongs to account ' || stored_account_id
            when customer_type = 'contact' and parent_contact_id is not null
                then 'the contact belongs to another contact, ' || parent_contact_id || ', which gives no account'
            when customer_type = 'contact' then 'the contact belongs to no account'
            when account_name is null then 'the account is not a row of accounts, or has no name; its id is kept'
            else 'the account is a row of accounts'
        end as explanation
    from customers
    where customer_id is not null
),

rules as (
    select *
    from (
        values
        (1, 'customer_is_account', 'customerid is an account'),
        (2, 'account_of_customer_contact', 'customerid is a contact whose company is an account'),
        (3, 'customer_contact_has_no_account', 'customerid is a contact whose company is empty or another contact'),
        (4, 'customer_contact_missing', 'customerid is a contact that was not extracted'),
        (5, 'customer_of_another_type', 'customerid is neither an account nor a contact'),
        (6, 'no_customer', 'customerid is empty')
    ) as listed (position, rule, meaning)
),

rule_rows as (
    select
        customers.opportunity_id,
        5 as step,
        'account_rule' as topic,
        'accounts' as relation,
        case when rules.rule = customers.account_rule then customers.account_id end as id,
        case when rules.rule = customers.account_rule then 'applies' else 'does_not_apply' end as outcome,
        rules.rule || case
            when rules.rule = customers.account_rule then ': ' || rules.meaning
            when
                customers.customer_type is distinct from 'contact'
                or rules.rule in ('customer_is_account', 'customer_of_another_type', 'no_customer')
                then ': it would need that ' || rules.meaning || ', but it is ' || case
                    when customers.customer_id is null then 'empty'
                    when customers.customer_type = 'account' then 'an account'
                    when customers.customer_type = 'contact' then 'a contact'
                    else 'a row of ' || customers.customer_type
                end
            else ': it would need that ' || rules.meaning || ', but ' || case customers.account_rule
                when 'account_of_customer_contact' then 'its company is an account'
                when 'customer_contact_has_no_account' then 'its company is empty or another contact'
                else 'the contact was not extracted'
            end
        end as explanation,
        rules.position
    from customers
    cross join rules
),

customer_role_rows as (
    select
        roles.opportunity_id,
        6 as step,
        'contact_role' as topic,
        'contacts' as relation,
        roles.contact_id as id,
        'gives_role' as outcome,
        'the customer is a known contact: primary role "' || roles.role || '"' as explanation
    from roles
    where roles.role_source = 'customer'
),

connection_rows as (
    select
        opportunity_id,
        7 as step,
        'contact_role' as topic,
        'connections' as relation,
        connection_id as id,
        outcome,
        case outcome
            when 'gives_role' then 'gives contact ' || contact_id || ' the role "' || role || '"'
            when 'repeats_another'
                then 'contact ' || contact_id || ' has the role "' || role || '" from an older row or the mirror row'
            when 'same_as_customer_role'
                then 'contact ' || contact_id || ' is the customer and has the role "' || role || '" from there'
            when 'other_end_is_no_contact'
                then 'the other end is ' || coalesce(other_type || ' ' || other_id, 'empty')
            when 'inactive' then 'the connection is inactive'
            when 'not_yet_effective' then 'the connection begins after the day of this release'
            when 'ended' then 'the connection ended before the day of this release'
            when 'no_role' then 'there is no role on the contact''s side'
            when 'other_category' then 'the role "' || role || '" is of a category that does not count'
            when 'unknown_role' then 'connection role ' || connection_role_id || ' was not extracted'
            when 'role_without_name' then 'connection role ' || connection_role_id || ' has no name'
            else 'contact ' || contact_id || ' was not extracted'
        end as explanation,
        raw_batch,
        read_at
    from connections
),

steps as (
    select * from opportunity_rows
    union all by name
    select * from merge_rows
    union all by name
    select * from customer_rows
    union all by name
    select * from rule_rows
    union all by name
    select * from customer_role_rows
    union all by name
    select * from connection_rows
)

select
    steps.opportunity_id, -- The opportunity that is explained
    steps.step, -- Order of the steps: 1 opportunity, 2 merges of the customer, 3 customer, 4 merges of its account, 5 account rules, 6 primary role, 7 connections
    coalesce(steps.position, 1) as position, -- Order within a step
    steps.topic, -- opportunity, merge, customer, account_rule or contact_role
    steps.relation, -- What id identifies: opportunities, contacts, accounts or connections
    steps.id, -- The row that the step is about
    steps.outcome, -- What the step found, in a word; of connections as in opportunity_connections
    steps.explanation, -- The same as a sentence
    coalesce(steps.raw_batch, sources.raw_batch) as raw_batch, -- Raw batch that brought the row
    coalesce(steps.read_at, sources.read_at) as read_at -- When the row was read from Dynamics, UTC
from steps
left join sources on sources.relation = steps.relation and sources.key = steps.id
order by steps.opportunity_id, steps.step, coalesce(steps.position, 1), steps.id
