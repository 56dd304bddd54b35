-- Releases since the history began, and how many rows they had. One row per release.
with
present as (select * from main.release),
past as (select * from history.releases)

select
    present.release_id, -- Sortable by time, for example 20261122T140000123456Z
    present.released_at, -- When the release was built, UTC
    present.run_id, -- Airflow run that made it
    present.pipeline_version, -- Version of opportunity-sync
    (select count(*) from main.opportunities) as opportunities, -- Rows of table opportunities
    (select count(*) from main.opportunity_contact_roles) as opportunity_contact_roles, -- Rows of table opportunity_contact_roles
    (select count(*) from main.contacts) as contacts, -- Rows of table contacts
    (select count(*) from main.accounts) as accounts -- Rows of table accounts
from present
union all by name
select past.*
from past
