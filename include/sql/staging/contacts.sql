-- Contacts as Dataverse holds them, merged ones included. One row per live contact.
select
    contactid as contact_id, -- Dataverse contactid
    fullname as full_name, -- Full name
    emailaddress1 as email, -- Primary e-mail address
    parentcustomerid as parent_customer_id, -- Company as stored: an account or a contact
    parentcustomerid_type as parent_customer_type, -- Table of the company: account or contact
    coalesce(merged, false) as is_merged, -- True when the contact was merged into another one
    masterid as master_id, -- The contact it was merged into
    statecode_code as state_code, -- 0 Active, 1 Inactive
    createdon as created_at, -- UTC
    modifiedon as modified_at, -- UTC
    versionnumber as version_number, -- Row version of Dataverse
    _batch as raw_batch, -- Raw batch that brought this version
    _extracted_at as read_at, -- When it was read, UTC
    columns(* exclude (
        contactid, fullname, emailaddress1, parentcustomerid, parentcustomerid_type, merged, masterid, statecode_code,
        statecode, createdon, modifiedon, versionnumber, _batch,
        _extracted_at
    )) -- Additional columns of include/tables.yaml, under their Dataverse names
from source.contact
