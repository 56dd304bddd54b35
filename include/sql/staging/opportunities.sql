-- Opportunities as Dataverse holds them, under the names analysts use. One row per live opportunity.
select
    opportunityid as opportunity_id, -- Dataverse opportunityid
    name, -- Topic of the opportunity
    customerid as customer_id, -- Potential customer as stored: an account or a contact
    customerid_type as customer_type, -- Table of the potential customer: account or contact
    statecode_code as state_code, -- 0 Open, 1 Won, 2 Lost
    statecode as state, -- Label of state_code
    statuscode_code as status_code, -- Reason for the state
    statuscode as status, -- Label of status_code
    estimatedvalue as estimated_value, -- Estimated value in the opportunity's currency
    actualvalue as actual_value, -- Realised value in the opportunity's currency
    estimatedvalue_base as estimated_value_base, -- Estimated value in the organisation's currency
    actualvalue_base as actual_value_base, -- Realised value in the organisation's currency
    transactioncurrencyid as currency_id, -- Currency of the values
    cast(estimatedclosedate as date) as estimated_close_date, -- Day the deal is expected to close
    cast(actualclosedate as date) as actual_close_date, -- Day the deal was closed
    closeprobability as close_probability, -- Percent, 0 to 100
    salesstage_code as sales_stage_code, -- Sales stage
    salesstage as sales_stage, -- Label of sales_stage_code
    ownerid as owner_id, -- User or team that owns the opportunity
    ownerid_type as owner_type, -- systemuser or team
    createdon as created_at, -- UTC
    modifiedon as modified_at, -- UTC
    versionnumber as version_number, -- Row version of Dataverse; grows with every write
    _batch as raw_batch, -- Raw batch that brought this version
    _extracted_at as read_at, -- When it was read, UTC
    columns(* exclude (
        opportunityid, name, customerid, customerid_type, statecode_code, statecode, statuscode_code, statuscode,
        estimatedvalue, actualvalue, estimatedvalue_base, actualvalue_base, transactioncurrencyid, estimatedclosedate,
        actualclosedate, closeprobability, salesstage_code, salesstage, ownerid, ownerid_type, createdon, modifiedon,
        versionnumber, _batch, _extracted_at
    )) -- Additional columns of include/tables.yaml, under their Dataverse names
from source.opportunity
