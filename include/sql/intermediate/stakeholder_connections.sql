-- Connections that give a contact role, or would if what they refer to were known: active on the run's day, between an
-- opportunity and a contact, with a role on the contact's side that counts or is not known (rules 3.3 to 3.8).
-- One row per connection row and contact side.
select
    connection_id, -- Dataverse connectionid
    other_side as contact_side, -- Which end of the connection the contact is: record1 or record2
    opportunity_id, -- The opportunity, as stored
    contact_id, -- The contact after merges
    connection_role_id, -- Role on the contact's side
    role, -- Role text; empty when the connection role is not among the extracted ones
    is_role_unknown, -- True when the connection role is not among the extracted ones
    position, -- 1 for the oldest connection that gives this role; empty when it gives none
    created_at -- When the connection was made, UTC
from intermediate.considered_connections
where obstacle is null
