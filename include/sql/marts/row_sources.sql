-- Which raw batch brought each row, and when it was read. One row per live row of opportunities, contacts, accounts and
-- connection roles, merged ones included; of connections, `opportunity_connections` says it.
with
sources as (
    select 'opportunities' as relation, opportunity_id as key, raw_batch, read_at from staging.opportunities
    union all
    select 'contacts', contact_id, raw_batch, read_at from staging.contacts
    union all
    select 'accounts', account_id, raw_batch, read_at from staging.accounts
    union all
    select 'connection_roles', connection_role_id, raw_batch, read_at from staging.connection_roles
)

select
    relation, -- opportunities, contacts, accounts or connection_roles
    key, -- Key of the row
    raw_batch, -- Raw batch that brought its present version
    read_at -- When it was read from Dynamics, UTC
from sources
