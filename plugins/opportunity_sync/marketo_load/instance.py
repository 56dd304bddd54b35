"""What a Marketo instance says of itself, compared with `include/marketo.yaml` before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from opportunity_sync.errors import ConfigurationError
from opportunity_sync.marketo.objects import Description, Field
from opportunity_sync.marketo_load.mapping import STATE, FieldMap, LoadRules
from opportunity_sync.yaml_file import file_problem

if TYPE_CHECKING:
    from opportunity_sync.marketo.client import MarketoClient

ROLES = "opportunities/roles"
ID_LENGTH = 36
"""Characters of a Dynamics id as text."""
SHORTEST_ROLE = 20
"""Characters a role field needs at least, so that a cut role can still be told from another."""
ROLE_FIELDS = ("isPrimary", "externalCreatedDate")


@dataclass(frozen=True)
class Instance:
    """The fields that are going to be written, as the instance has them."""

    fields: Mapping[str, Mapping[str, Field]]
    """Object to field name to field."""

    @property
    def role_length(self) -> int:
        """Longest role text."""
        return self.fields[ROLES]["role"].length or 50


def probe(client: MarketoClient, rules: LoadRules) -> Instance:
    """Ask the instance what it has, and check that the mapping fits. Nothing is written.

    Raises:
        NativeSyncOnError: the instance gets its opportunities from its own CRM sync.
        ConfigurationError: a mapped field does not exist, cannot be written, or is too short for an id.
        MarketoError: the instance did not answer, or a permission is missing.
    """
    descriptions = {name: client.describe(name) for name in (ROLES, "opportunities", "leads")}
    wanted = {"opportunities": rules.opportunities}
    if rules.companies is not None:
        descriptions["companies"] = client.describe("companies")
        wanted["companies"] = rules.companies
        _check_key(descriptions["companies"], "externalCompanyId")
    if rules.leads.create:
        wanted["leads"] = rules.leads.made_with
    for name, mapped in wanted.items():
        _check_fields(rules, descriptions[name], mapped)
    _check_key(descriptions["opportunities"], "externalOpportunityId")
    _check_key(descriptions[ROLES], "externalOpportunityId")
    _check_roles(descriptions[ROLES])
    _check_lead_field(rules, descriptions["leads"])
    return Instance(fields={name: description.fields for name, description in descriptions.items()})


def _check_fields(rules: LoadRules, description: Description, mapped: FieldMap) -> None:
    for name, line in mapped.lines.items():
        field = description.fields.get(name)
        where = f"{rules.file}, line {line}: Marketo's {description.name}"
        if field is None:
            close = get_close_matches(name, description.fields, n=3)
            hint = f"did you mean {', '.join(close)}?" if close else f"it has {len(description.fields)} fields"
            raise file_problem(f"{where} has no field {name}; {hint}", state=STATE)
        if not field.updateable:
            raise file_problem(f"{where} has the field {name}, but it cannot be written", state=STATE)


def _check_key(description: Description, name: str) -> None:
    field = description.fields.get(name)
    if field is None or (field.length is not None and field.length < ID_LENGTH):
        raise ConfigurationError(
            f"Marketo's {description.name} has no field {name} that takes an id of {ID_LENGTH} characters",
            state=STATE,
            action="Check that the connection points at the right instance; ask its administrator",
        )


def _check_roles(description: Description) -> None:
    role = description.fields.get("role")
    missing = [
        name for name in ROLE_FIELDS if name not in description.fields or not description.fields[name].updateable
    ]
    if missing or role is None or (role.length is not None and role.length < SHORTEST_ROLE):
        raise ConfigurationError(
            f"Marketo's {description.name} lacks writable {', '.join(missing) or 'role texts of a usable length'}",
            state=STATE,
            action="Check that the connection points at the right instance; ask its administrator",
        )


def _check_lead_field(rules: LoadRules, description: Description) -> None:
    name = rules.leads.field
    if (name,) in description.searchable_fields:
        return
    known = sorted(fields[0] for fields in description.searchable_fields if len(fields) == 1)
    exists = name in description.fields
    raise file_problem(
        f"{rules.file}, line {rules.leads.line}: Marketo's leads "
        + (f"cannot be searched by {name}" if exists else f"have no field {name}")
        + f"; searchable are {', '.join(known)}",
        state=STATE,
    )
