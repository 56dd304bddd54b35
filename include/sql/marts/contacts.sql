-- People, inactive ones included. One row per live, unmerged contact.
with
contacts as (select * from staging.contacts where not is_merged),
account_survivors as (select * from intermediate.account_survivors)

select
    contacts.contact_id, -- Key: Dataverse contactid
    contacts.full_name, -- Full name
    contacts.email, -- Primary e-mail address
    case
        when contacts.parent_customer_type = 'account'
            then coalesce(account_survivors.survivor_id, contacts.parent_customer_id)
    end as account_id, -- The contact's account, after merges; empty when its company is empty or another contact
    contacts.state_code, -- 0 Active, 1 Inactive
    contacts.created_at, -- UTC
    contacts.modified_at, -- UTC
    case
        when contacts.parent_customer_type = 'account' and account_survivors.survivor_id <> contacts.parent_customer_id
            then contacts.parent_customer_id
    end as merged_account_id, -- Company as stored, when that account was merged into account_id; else empty
    case
        when contacts.parent_customer_type = 'contact' then contacts.parent_customer_id
    end as parent_contact_id, -- The other contact that stands as company, which gives no account; else empty
    contacts.* exclude (
        contact_id, full_name, email, parent_customer_id, parent_customer_type, is_merged, master_id, state_code,
        created_at, modified_at, version_number, raw_batch, read_at
    ) -- Additional columns of include/tables.yaml, under their Dataverse names
from contacts
left join account_survivors
    on contacts.parent_customer_type = 'account' and account_survivors.account_id = contacts.parent_customer_id
