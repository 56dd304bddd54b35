-- References that found no target in this release; the next runs pick them up when the target arrives.
-- One row per reference.
with
opportunities as (select opportunity_id from staging.opportunities),
contacts as (select * from staging.contacts where not is_merged),
accounts as (select account_id from staging.accounts where not is_merged),
account_survivors as (select * from intermediate.account_survivors),
contact_survivors as (select * from intermediate.contact_survivors),
customers as (select * from intermediate.customers),
connections as (select * from intermediate.stakeholder_connections),

customers_missing as (
    select
        'opportunities' as relation,
        customers.opportunity_id as key,
        'customerid' as reference,
        customers.customer_type as target_table,
        customers.customer_id as target_id
    from customers
    left join accounts on customers.customer_type = 'account' and accounts.account_id = customers.customer_id
    where
        customers.customer_type in ('account', 'contact')
        and customers.customer_id is not null
        and not customers.is_known_contact
        and accounts.account_id is null
),

contact_accounts as (
    select
        contacts.contact_id,
        coalesce(account_survivors.survivor_id, contacts.parent_customer_id) as account_id
    from contacts
    left join account_survivors on account_survivors.account_id = contacts.parent_customer_id
    where contacts.parent_customer_type = 'account' and contacts.parent_customer_id is not null
),

contact_accounts_missing as (
    select
        'contacts' as relation,
        contact_accounts.contact_id as key,
        'parentcustomerid' as reference,
        'account' as target_table,
        contact_accounts.account_id as target_id
    from contact_accounts
    anti join accounts on accounts.account_id = contact_accounts.account_id
),

contact_masters_missing as (
    select
        'contacts' as relation,
        contact_id as key,
        'masterid' as reference,
        'contact' as target_table,
        unreached_id as target_id
    from contact_survivors
    where not is_resolved
),

account_masters_missing as (
    select
        'accounts' as relation,
        account_id as key,
        'masterid' as reference,
        'account' as target_table,
        unreached_id as target_id
    from account_survivors
    where not is_resolved
),

connection_opportunities_missing as (
    select
        'connections' as relation,
        connections.connection_id as key,
        case connections.contact_side when 'record1' then 'record2id' else 'record1id' end as reference,
        'opportunity' as target_table,
        connections.opportunity_id as target_id
    from connections
    anti join opportunities on opportunities.opportunity_id = connections.opportunity_id
),

connection_contacts_missing as (
    select
        'connections' as relation,
        connections.connection_id as key,
        connections.contact_side || 'id' as reference,
        'contact' as target_table,
        connections.contact_id as target_id
    from connections
    anti join contacts on contacts.contact_id = connections.contact_id
),

connection_roles_missing as (
    select
        'connections' as relation,
        connection_id as key,
        contact_side || 'roleid' as reference,
        'connectionrole' as target_table,
        connection_role_id as target_id
    from connections
    where is_role_unknown
),

unresolved as (
    select * from customers_missing
    union all
    select * from contact_accounts_missing
    union all
    select * from contact_masters_missing
    union all
    select * from account_masters_missing
    union all
    select * from connection_opportunities_missing
    union all
    select * from connection_contacts_missing
    union all
    select * from connection_roles_missing
)

select
    relation, -- Relation that holds the reference: opportunities, contacts, accounts or connections
    key, -- Key of the row that holds the reference
    reference, -- Dataverse column of the reference
    target_table, -- Dataverse table the reference points to
    target_id -- Id that was not found, after merges
from unresolved
