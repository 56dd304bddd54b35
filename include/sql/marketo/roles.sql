-- Contact roles as Marketo is to have them, and why one cannot be sent yet. One row per opportunity, contact and role.
with
roles as (
    select * from published.opportunity_contact_roles where list_contains(getvariable('role_sources'), role_source)
),
opportunities as (select opportunity_id, created_at from published.opportunities),
leads as (select * from ledger.leads),
refused as (select key from ledger.records where object = 'opportunities' and state = 'rejected' and not held)

select
    roles.opportunity_id, -- The opportunity
    roles.contact_id, -- The contact
    roles.role, -- Role text of the release
    leads.lead_id, -- Marketo's id of the contact's lead; empty: none is known
    case
        when length(roles.role) <= getvariable('role_length') then roles.role
        else left(roles.role, getvariable('role_length') - 8) || ' #' || left(md5(roles.role), 6)
    end as sent_role, -- Role text for Marketo: a longer one is cut and gets six digits of its checksum, so that two stay two
    roles.is_primary, -- True for the potential customer
    coalesce(roles.connected_at, opportunities.created_at) as joined_at, -- When the person joined the deal, UTC
    case
        when leads.lead_id is null then coalesce(leads.reason, 'not_looked_up')
        when refused.key is not null then 'opportunity_rejected'
    end as parked -- Why the role waits: no_lookup_value, no_lead, several_leads, lead_gone, not_looked_up or opportunity_rejected
from roles
inner join opportunities on opportunities.opportunity_id = roles.opportunity_id
left join leads on leads.contact_id = roles.contact_id
left join refused on refused.key = json_object('externalOpportunityId', roles.opportunity_id)::varchar
