-- Table `opportunity_contact_roles` as the release showed it that was live at a moment (UTC). Empty before the history began.
select * exclude (valid_from, valid_to, is_current)
from main.opportunity_contact_roles_history
where
    valid_from <= moment
    and (valid_to is null or valid_to > moment)
    and moment >= (select began_at from history.beginning)
