"""What the objects look like: fields with their types and lengths, keys, and what may be searched by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

TYPES = frozenset(
    {
        "string",
        "text",
        "email",
        "phone",
        "url",
        "integer",
        "percent",
        "float",
        "currency",
        "boolean",
        "date",
        "datetime",
    }
)
SEARCHABLE_TYPES = frozenset({"string", "email", "integer"})
"""Custom fields of these types may be filters."""


@dataclass(frozen=True)
class Field:
    """One field.

    Attributes:
        name: API name.
        type: One of `TYPES`.
        length: Characters at most, None for types without a length.
        updateable: False for keys and for what Marketo sets itself.
        of_company: A lead's field whose value comes from its company.
    """

    name: str
    type: str = "string"
    length: int | None = None
    updateable: bool = True
    of_company: bool = False

    @property
    def display_name(self) -> str:
        """Name for people."""
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Za-z][a-z]*|\d+", self.name)
        return " ".join(word[:1].upper() + word[1:] for word in words)


@dataclass(frozen=True)
class ObjectType:
    """One kind of object.

    Attributes:
        path: Its part of the address: `opportunities`, `opportunities/roles`, `companies`, `leads`.
        name: API name.
        display_name: Name for people.
        id_field: The key Marketo gives.
        dedupe_fields: The key a client gives; empty for leads, which are looked up by a field of the request.
        fields: By API name.
        searchable: Fields that may be a filter on their own.
        required: Must have a value.
        system: Set by Marketo, refused in a write.
        crm_managed: Belongs to the native CRM synchronisation where that is on.
    """

    path: str
    name: str
    display_name: str
    id_field: str
    dedupe_fields: tuple[str, ...]
    fields: dict[str, Field]
    searchable: tuple[str, ...]
    required: tuple[str, ...] = ()
    system: tuple[str, ...] = ("createdAt", "updatedAt")
    crm_managed: bool = True

    @property
    def permission(self) -> str:
        """Whose permissions its calls need: roles come under opportunities."""
        return self.path.partition("/")[0]

    def with_field(self, field: Field) -> ObjectType:
        """The same with a further field."""
        searchable = (*self.searchable, field.name) if field.type in SEARCHABLE_TYPES else self.searchable
        return replace(self, fields={**self.fields, field.name: field}, searchable=searchable)


def _fields(*fields: Field) -> dict[str, Field]:
    return {field.name: field for field in fields}


def _strings(*names: str, length: int = 255) -> Iterator[Field]:
    return (Field(name, "string", length) for name in names)


_STAMPS = (Field("createdAt", "datetime", updateable=False), Field("updatedAt", "datetime", updateable=False))
_GUID = Field("marketoGUID", "string", 36, updateable=False)
_OPPORTUNITY_KEY = Field("externalOpportunityId", "string", 50, updateable=False)

OPPORTUNITIES = ObjectType(
    path="opportunities",
    name="opportunity",
    display_name="Opportunity",
    id_field="marketoGUID",
    dedupe_fields=("externalOpportunityId",),
    fields=_fields(
        _GUID,
        *_STAMPS,
        _OPPORTUNITY_KEY,
        *_strings("name", "type", "stage", "source", "leadSource", "nextStep"),
        Field("description", "string", 2000),
        Field("amount", "currency"),
        Field("expectedRevenue", "currency"),
        Field("closeDate", "date"),
        Field("externalCreatedDate", "datetime"),
        Field("lastActivityDate", "date"),
        *_strings("fiscalQuarter", "fiscalYear", "forecastCategory", "forecastCategoryName"),
        Field("isClosed", "boolean"),
        Field("isWon", "boolean"),
        Field("probability", "integer"),
        Field("quantity", "float"),
        Field("externalCompanyId", "string", 100),
        Field("externalSalesPersonId", "string", 255),
    ),
    searchable=("externalOpportunityId", "marketoGUID", "externalCompanyId", "externalSalesPersonId"),
    required=("name",),
)

ROLES = ObjectType(
    path="opportunities/roles",
    name="opportunityRole",
    display_name="Opportunity Role",
    id_field="marketoGUID",
    dedupe_fields=("externalOpportunityId", "leadId", "role"),
    fields=_fields(
        _GUID,
        *_STAMPS,
        _OPPORTUNITY_KEY,
        Field("leadId", "integer", updateable=False),
        Field("role", "string", 50, updateable=False),
        Field("isPrimary", "boolean"),
        Field("externalCreatedDate", "datetime"),
    ),
    searchable=("marketoGUID", "leadId", "externalOpportunityId"),
)

COMPANIES = ObjectType(
    path="companies",
    name="Company",
    display_name="Company",
    id_field="id",
    dedupe_fields=("externalCompanyId",),
    fields=_fields(
        Field("id", "integer", updateable=False),
        *_STAMPS,
        Field("externalCompanyId", "string", 100, updateable=False),
        *_strings("company", "site", "mainPhone", "industry", "billingStreet", "billingCity", "billingCountry"),
        Field("website", "url", 255),
        Field("annualRevenue", "currency"),
        Field("numberOfEmployees", "integer"),
    ),
    searchable=("externalCompanyId", "id", "company"),
)


def leads(contact_field: str) -> ObjectType:
    """Leads, with a custom field that holds the contact's id.

    Args:
        contact_field: API name of that field.
    """
    return ObjectType(
        path="leads",
        name="API Lead",
        display_name="Lead",
        id_field="id",
        dedupe_fields=(),
        fields=_fields(
            Field("id", "integer", updateable=False),
            *_STAMPS,
            Field("email", "email", 255),
            *_strings("firstName", "lastName", "title"),
            Field("phone", "phone", 255),
            Field("externalPersonId", "string", 50),
            Field("externalCompanyId", "string", 100),
            Field("company", "string", 255, of_company=True),
            Field("industry", "string", 255, of_company=True),
            Field("annualRevenue", "currency", of_company=True),
            Field(contact_field, "string", 255),
        ),
        searchable=("id", "email", "externalPersonId", "externalCompanyId", contact_field),
        crm_managed=False,
    )
