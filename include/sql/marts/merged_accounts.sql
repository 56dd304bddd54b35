-- Where merged accounts lead: every reference to one was followed to its survivor. One row per merged account.
select
    account_id, -- Key: the merged account
    survivor_id, -- The account that references to it lead to
    is_resolved, -- False when the merges lead nowhere: a master is missing, or they go in a circle
    path -- The accounts followed step by step, from the merged one to the survivor
from intermediate.account_survivors
