-- Every version of every opportunity that a release has shown. One row per opportunity and version.
with
present as (select * from main.opportunities),
since as (select * from history.opportunities_since),
past as (select * from history.opportunities)

select
    present.*,
    coalesce(since.valid_from, (select began_at from history.beginning)) as valid_from, -- First release that showed this version, UTC
    cast(null as timestamp) as valid_to, -- First release that no longer showed it, UTC; empty: it is current
    true as is_current -- True for what the live release shows
from present
left join since
    on since.opportunity_id = present.opportunity_id
union all by name
select
    past.*,
    false as is_current
from past
