-- What each release changed against the one before it, since the history began. One row per release and changed row.
select
    cast(null as varchar) as release_id, -- The release that brought the change
    cast(null as timestamp) as released_at, -- When that release was built, UTC
    cast(null as varchar) as table_name, -- opportunities, opportunity_contact_roles, contacts or accounts
    cast(null as uuid) as key, -- opportunity_id, contact_id or account_id; of a contact role its opportunity_id
    cast(null as uuid) as contact_id, -- Of a contact role: its contact
    cast(null as varchar) as role, -- Of a contact role: its role text
    cast(null as varchar) as change, -- inserted, updated or deleted
    cast(null as varchar[]) as changed_columns -- Of an updated row: the columns that differ
where false
