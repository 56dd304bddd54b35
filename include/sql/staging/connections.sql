-- Connections as Dataverse holds them: each one twice, once from either end. One row per live connection row.
select
    connectionid as connection_id, -- Dataverse connectionid
    record1id as record1_id, -- Connected from
    coalesce(
        record1id_type,
        case record1objecttypecode_code when 1 then 'account' when 2 then 'contact' when 3 then 'opportunity' end
    ) as record1_type, -- Table of record1_id
    record1roleid as record1_role_id, -- Role of record1_id
    record2id as record2_id, -- Connected to
    coalesce(
        record2id_type,
        case record2objecttypecode_code when 1 then 'account' when 2 then 'contact' when 3 then 'opportunity' end
    ) as record2_type, -- Table of record2_id
    record2roleid as record2_role_id, -- Role of record2_id
    cast(effectivestart as date) as effective_start, -- First day, UTC; empty: always
    cast(effectiveend as date) as effective_end, -- Last day, UTC; empty: still
    statecode_code as state_code, -- 0 Active, 1 Inactive
    createdon as created_at, -- UTC
    modifiedon as modified_at, -- UTC
    versionnumber as version_number, -- Row version of Dataverse
    _batch as raw_batch, -- Raw batch that brought this version
    _extracted_at as read_at -- When it was read, UTC
from source.connection
