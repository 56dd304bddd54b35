-- How fresh is what I see?
-- One row per table of Dynamics. Everything that was changed there before `as_of` is in this release; it was published
-- `minutes_until_release` later. An empty `as_of` means that the table was never read completely. `last_compared_at` is
-- the last comparison with Dynamics key by key; what it found missing, gone or stale was repaired, `repaired` rows in
-- all.
select
    release_tables.table_name,
    release_tables.rows,
    release_tables.as_of,
    date_diff('minute', release_tables.as_of, release.released_at) as minutes_until_release,
    reconciliations.swept_at as last_compared_at,
    reconciliations.repaired
from release_tables
cross join release
left join reconciliations on reconciliations.table_name = release_tables.table_name
order by release_tables.as_of nulls first, release_tables.table_name
