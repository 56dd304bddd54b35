-- What validation found in this release. One row per expectation.
select
    cast(null as varchar) as suite, -- Suite of expectations: extracted, staging, marts or release
    cast(null as varchar) as relation, -- Relation that was checked
    cast(null as varchar) as expectation, -- Great Expectations type, or the name of a rule of this project
    cast(null as varchar) as column_name, -- Column that was checked; empty for a whole relation
    cast(null as varchar) as severity, -- critical: would have stopped the release; warning: published all the same
    cast(null as boolean) as success, -- True when the expectation was met
    cast(null as bigint) as unexpected_count, -- Rows that did not meet it; empty when it does not count rows
    cast(null as bigint) as element_count -- Rows that were checked; empty when it does not count rows
where false
