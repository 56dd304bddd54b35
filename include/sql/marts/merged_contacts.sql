-- Where merged contacts lead: every reference to one was followed to its survivor. One row per merged contact.
select
    contact_id, -- Key: the merged contact
    survivor_id, -- The contact that references to it lead to
    is_resolved, -- False when the merges lead nowhere: a master is missing, or they go in a circle
    path -- The contacts followed step by step, from the merged one to the survivor
from intermediate.contact_survivors
