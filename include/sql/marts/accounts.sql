-- Companies, inactive ones included. One row per live, unmerged account.
select
    account_id, -- Key: Dataverse accountid
    name, -- Account name
    state_code, -- 0 Active, 1 Inactive
    created_at, -- UTC
    modified_at, -- UTC
    columns(* exclude (
        account_id, name, is_merged, master_id, state_code, created_at, modified_at, version_number, raw_batch, read_at
    )) -- Additional columns of include/tables.yaml, under their Dataverse names
from staging.accounts
where not is_merged
