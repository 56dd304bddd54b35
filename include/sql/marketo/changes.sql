-- What brings Marketo from what the ledger says it holds to what is wanted. One row per record to send.
with
wanted as (select * from plan.wanted),
records as (select * from ledger.records where list_contains(getvariable('objects'), object)),

compared as (
    select
        coalesce(wanted.object, records.object) as object,
        coalesce(wanted.key, records.key) as key,
        case when wanted.key is null then 'delete' when records.held then 'update' else 'create' end as action,
        wanted.fields,
        wanted.hash,
        coalesce(wanted.cut, []) as cut,
        records.state,
        records.hash as known_hash,
        records.code,
        records.held
    from wanted
    full join records on records.object = wanted.object and records.key = wanted.key
)

select
    object, -- companies, opportunities or opportunities/roles
    action, -- create, update or delete
    key, -- Marketo's key, as JSON
    fields, -- The other fields, as JSON; empty for a delete
    hash, -- Checksum of the fields; empty for a delete
    cut -- Fields whose text was cut to Marketo's length
from compared
where
    case
        when state is null or state = 'sent' then true
        when action = 'delete' and not held then false
        when state = 'rejected' and hash is not distinct from known_hash
            then list_contains(getvariable('passing_codes'), code)
        else hash is distinct from known_hash
    end
