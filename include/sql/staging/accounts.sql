-- Accounts as Dataverse holds them, merged ones included. One row per live account.
select
    accountid as account_id, -- Dataverse accountid
    name, -- Account name
    coalesce(merged, false) as is_merged, -- True when the account was merged into another one
    masterid as master_id, -- The account it was merged into
    statecode_code as state_code, -- 0 Active, 1 Inactive
    createdon as created_at, -- UTC
    modifiedon as modified_at, -- UTC
    versionnumber as version_number, -- Row version of Dataverse
    _batch as raw_batch, -- Raw batch that brought this version
    _extracted_at as read_at, -- When it was read, UTC
    columns(* exclude (
        accountid, name, merged, masterid, statecode_code, statecode, createdon, modifiedon, versionnumber, _batch,
        _extracted_at
    )) -- Additional columns of include/tables.yaml, under their Dataverse names
from source.account
