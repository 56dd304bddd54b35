-- Contact roles that can be sent. One row per opportunity, lead and role text: contacts that share a lead share its roles.
with
roles as (select * from plan.roles where parked is null)

select
    json_object('externalOpportunityId', opportunity_id, 'leadId', lead_id, 'role', sent_role)::varchar as key, -- Marketo's key
    json_object(
        'isPrimary', bool_or(is_primary), 'externalCreatedDate', strftime(min(joined_at), '%Y-%m-%dT%H:%M:%SZ')
    )::varchar as fields, -- The other fields
    case when any_value(role) <> sent_role then ['role'] else [] end as cut -- Fields whose text was cut
from roles
group by opportunity_id, lead_id, sent_role
