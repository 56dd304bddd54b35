-- What validation found in every release since the history began. One row per release and expectation.
with
release as (select * from main.release),
present as (select * from main.expectation_results),
past as (select * from history.expectation_results)

select
    release.release_id, -- The release that was validated
    release.released_at, -- When that release was built, UTC
    present.*
from present
cross join release
union all by name
select past.*
from past
