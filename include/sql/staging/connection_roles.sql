-- Connection roles: what one end of a connection is to the other. One row per live connection role.
select
    connectionroleid as connection_role_id, -- Dataverse connectionroleid
    trim(name) as name, -- Role text
    category_code as category, -- 1000 Stakeholder, 1001 Sales Team, 1002 Service, ...
    statecode_code as state_code, -- 0 Active, 1 Inactive
    createdon as created_at, -- UTC
    modifiedon as modified_at, -- UTC
    versionnumber as version_number, -- Row version of Dataverse
    _batch as raw_batch, -- Raw batch that brought this version
    _extracted_at as read_at -- When it was read, UTC
from source.connectionrole
