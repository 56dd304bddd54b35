-- Why is an account or a contact missing?
-- One row per kind of reference whose target was not among the rows we could read, with the deals that lack something
-- because of it. Usual reasons: the sync's security role in Dynamics may not read the row, or it was deleted there; a
-- row that is merely late arrives with the next run. The ids are in `unresolved_references`.
with
missing as (select * from unresolved_references),

deals_by_row as (
    select 'opportunities' as relation, opportunity_id as key, opportunity_id from opportunities
    union all
    select customer_type || 's', customer_id, opportunity_id from opportunities
    union all
    select 'connections', connection_id, opportunity_id from opportunity_connections
)

select
    missing.relation,
    missing.reference,
    missing.target_table,
    count(distinct missing.key) as rows_with_it,
    count(distinct deals_by_row.opportunity_id) as deals,
    case
        when missing.reference = 'masterid' then 'the merge cannot be followed to its end'
        when missing.relation = 'connections' then 'no role of that stakeholder'
        when missing.target_table = 'contact' then 'no account, and no role of the customer'
        else 'account_id without account_name'
    end as consequence
from missing
left join deals_by_row on deals_by_row.relation = missing.relation and deals_by_row.key = missing.key
group by missing.relation, missing.reference, missing.target_table
order by deals desc, missing.relation, missing.reference, missing.target_table
