-- Connections needed to derive the touched rows, with their ends: touched ones and all at a touched opportunity.
with
at_touched_opportunities as (
    select
        connection_id as id,
        record1_id,
        record1_type,
        record2_id,
        record2_type
    from staging.connections
    where record1_id in (select id from scope.opportunities) or record2_id in (select id from scope.opportunities)
)

select * from scope.connections
union
select * from at_touched_opportunities
