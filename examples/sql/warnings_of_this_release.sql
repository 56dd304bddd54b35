-- Which checks found something in this release?
-- One row per expectation that was not met. All of them are warnings: a release that fails a critical expectation is
-- never published. `unexpected_rows` out of `checked_rows` did not meet it; what it means and what to do is in the
-- quality report.
with
results as (select * from expectation_results)

select
    severity,
    relation,
    expectation,
    column_name,
    unexpected_count as unexpected_rows,
    element_count as checked_rows
from results
where not success
order by severity, unexpected_count desc nulls last, relation, expectation, column_name
