-- Where references to a merged contact lead: masterid followed step by step (rule 1.5). One row per merged contact.
with recursive
contacts as (select * from staging.contacts),

walk as (
    select
        contact_id,
        contact_id as reached_id,
        master_id as next_id,
        true as reached_is_merged,
        [contact_id] as path
    from contacts
    where is_merged
    union all
    select
        walk.contact_id,
        contacts.contact_id,
        contacts.master_id,
        contacts.is_merged,
        list_append(walk.path, contacts.contact_id)
    from walk
    inner join contacts on contacts.contact_id = walk.next_id
    where walk.reached_is_merged and not list_contains(walk.path, walk.next_id)
),

numbered as (
    select
        *,
        row_number() over (partition by contact_id order by len(path) desc) as steps_from_end
    from walk
)

select
    contact_id, -- The merged contact
    reached_id as survivor_id, -- The last row found
    not reached_is_merged as is_resolved, -- False when the walk ended at a merged row: missing master or a cycle
    case when reached_is_merged then next_id end as unreached_id, -- The id the walk could not go on to
    path -- The rows followed, from the merged one to the survivor
from numbered
where steps_from_end = 1
