-- Opportunities whose output rows a change may have touched: changed ones, those of a touched customer, and both ends of
-- touched connections.
select key as id from meta.changed_keys
where table_name = 'opportunity' and sequence > getvariable('since_sequence')
union
select opportunities.opportunity_id as id
from staging.opportunities as opportunities
semi join scope.contacts as contacts on contacts.id = opportunities.customer_id
union
select opportunities.opportunity_id as id
from staging.opportunities as opportunities
semi join scope.accounts as accounts on accounts.id = opportunities.customer_id
union
select record1_id as id
from staging.connections as connections
semi join scope.connections as touched on touched.id = connections.connection_id
where record1_type = 'opportunity'
union
select record2_id as id
from staging.connections as connections
semi join scope.connections as touched on touched.id = connections.connection_id
where record2_type = 'opportunity'
