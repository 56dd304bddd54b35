-- Connections needed to derive the touched rows: touched ones and all at a touched opportunity.
select id from scope.connections
union
select connection_id as id
from staging.connections as connections
semi join scope.opportunities as opportunities on opportunities.id = connections.record1_id
union
select connection_id as id
from staging.connections as connections
semi join scope.opportunities as opportunities on opportunities.id = connections.record2_id
