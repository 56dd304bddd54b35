"""Error answers in the shape of the Dataverse Web API: `{"error": {"code": "0x...", "message": "..."}}`."""

from __future__ import annotations

from collections.abc import Mapping


class ApiError(Exception):
    """An answer other than 2xx.

    Args:
        status: HTTP status.
        code: Dataverse error code, `0x` and eight hexadecimal digits, or empty.
        message: What the service says.
        headers: Extra response headers.
    """

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers = dict(headers or {})

    def body(self) -> dict[str, object]:
        """The JSON body."""
        return {"error": {"code": self.code, "message": self.message}}


def not_spoken(feature: str) -> ApiError:
    """501 for a part of the Web API this stand-in does not speak; the message names the feature."""
    return ApiError(501, "0x80060892", f"The stand-in does not speak {feature}.")


def bad_query(message: str) -> ApiError:
    """400 for a malformed or refused query (code of an OData exception in Dataverse)."""
    return ApiError(400, "0x80060888", message)


def bad_payload(message: str) -> ApiError:
    """400 for a body that cannot be applied."""
    return ApiError(400, "0x80048d19", f"Error identified in Payload provided by the user for Entity :'', {message}")


def no_property(name: str, type_name: str) -> ApiError:
    """400 for a property that does not exist."""
    return bad_query(f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{type_name}'.")


def no_segment(segment: str) -> ApiError:
    """404 for an entity set, action or function that does not exist."""
    return ApiError(404, "0x8006088a", f"Resource not found for the segment '{segment}'.")


def no_row(table: str, row_id: str) -> ApiError:
    """404 for a row that does not exist."""
    return ApiError(404, "0x80040217", f"Entity '{table.capitalize()}' With Id = {row_id} Does Not Exist")


def no_privilege(table: str, depth: str, user_id: str, business_unit_id: str, verb: str = "Read") -> ApiError:
    """403 for a privilege the caller's security roles do not give.

    The text is the one Dataverse sends (MicrosoftDocs/powerapps-docs issue 3883 shows it for change tracking).
    """
    return ApiError(
        403,
        "0x80040220",
        f"SecLib::CheckPrivilege failed. User: {user_id}, PrivilegeName: prv{verb}{table.capitalize()}, "
        f"PrivilegeId: 00000000-0000-0000-0000-000000000000, Required Depth: {depth}, "
        f"BusinessUnitId: {business_unit_id}, MetadataCache Privileges Count: 7356, User Privileges Count: 586",
    )


def version_stamp_expired() -> ApiError:
    """ExpiredVersionStamp. The HTTP status is UNVERIFIED (see README); 400 is this stand-in's choice."""
    return ApiError(
        400,
        "0x80044352",
        "Version stamp associated with the client has expired. Please perform a full sync.",
    )


def tracking_off(table: str) -> ApiError:
    """ChangeTrackingNotEnabledForEntity, from the table of web service error codes."""
    return ApiError(400, "0x80072491", f"Entity {table} isn't enabled for change tracking.")
