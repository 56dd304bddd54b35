"""Errors of the Dataverse Web API and of its tokens.

DataverseError
├── AuthenticationError         no token, or the token is refused
├── NotAMemberError             the application or user is not in the organisation (0x80072560)
├── MissingPrivilegeError       a security role lacks a privilege (0x80040220)
├── OrganizationReadMissingError  the read privilege is there, but not at organisation level
├── ThrottledError              transient: 429, service protection limits (0x80072321, 0x80072322, 0x80072326)
├── ServiceUnavailableError     transient: 5xx
├── ConnectionLostError         transient: reset, timeout, incomplete answer (not transient: untrusted certificate)
├── ProtocolError               an unusable answer (transient when asking again may help)
├── DeltaLinkExpiredError       0x80044352: the table must be read in full
├── ChangeTrackingOffError      0x80072491: the table has no change tracking
└── RequestRefusedError         any other refusal

Messages name status and Dataverse code. Of the service's own text only privilege and property names are quoted: the
rest may hold ids of users or personal data.

Codes: https://learn.microsoft.com/power-apps/developer/data-platform/reference/web-service-error-codes and
https://learn.microsoft.com/power-apps/developer/data-platform/api-limits
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from opportunity_sync.errors import OpportunitySyncError

NOTHING_KEPT = "Nothing of this read was kept; earlier data stays as it is"

_THROTTLING = {
    "0x80072322": "too many requests within five minutes",
    "0x80072321": "too much execution time within five minutes",
    "0x80072326": "too many requests at once",
}
_NOT_A_MEMBER = "0x80072560"
_PRIVILEGE = "0x80040220"
_DELTA_EXPIRED = "0x80044352"
_TRACKING_OFF = "0x80072491"


class DataverseError(OpportunitySyncError):
    """Base of the errors of the Dataverse client."""

    def __init__(
        self,
        what: str,
        *,
        state: str = NOTHING_KEPT,
        action: str,
        transient: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(what, state=state, action=action)
        if transient is not None:
            self.transient = transient
        if retry_after is not None:
            self.retry_after = retry_after


class AuthenticationError(DataverseError):
    """There is no token, or the token is refused."""


class NotAMemberError(DataverseError):
    """The application or user is not an enabled user of the organisation."""


class MissingPrivilegeError(DataverseError):
    """A privilege is missing from the security roles of the user."""


class OrganizationReadMissingError(DataverseError):
    """Change tracking needs the read privilege at organisation level."""


class ThrottledError(DataverseError):
    """The service protection limits were reached."""

    transient = True


class ServiceUnavailableError(DataverseError):
    """The service failed on its side."""

    transient = True


class ConnectionLostError(DataverseError):
    """No complete answer arrived."""

    transient = True


class ProtocolError(DataverseError):
    """The answer is not what the Web API promises."""


class DeltaLinkExpiredError(DataverseError):
    """There is no delta link from which changes can be read."""


class ChangeTrackingOffError(DataverseError):
    """The table has no change tracking."""


class RequestRefusedError(DataverseError):
    """The service refused the request."""


def error_from_response(status: int, headers: Mapping[str, str], body: bytes, *, path: str) -> DataverseError:
    """The error that an answer other than 200 stands for.

    Args:
        status: HTTP status.
        headers: response headers, keys in any case handled by the mapping.
        body: response body; may be anything.
        path: what was asked for, without its query.
    """
    code, message = _code_and_message(body)
    answer = f"Dataverse answered {status}{f' ({code})' if code else ''} to {path}"
    wait = retry_after_seconds(headers.get("Retry-After"))
    if status == 429:
        return ThrottledError(
            f"{answer}: {_THROTTLING.get(code, 'service protection limit')}",
            action="Run again later, or less often; the limits count per user, so give the sync its own",
            retry_after=wait,
        )
    if status >= 500 and status != 501:
        return ServiceUnavailableError(answer, action="Run again later", retry_after=wait)
    if status == 401:
        return AuthenticationError(
            f"{answer}: the access token is refused, also a fresh one",
            action="Check that the organisation URL, tenant and application id of the connection belong together",
        )
    if code == _DELTA_EXPIRED or status == 410:
        return DeltaLinkExpiredError(f"{answer}: the delta link has expired", action="Read the table in full")
    if code == _TRACKING_OFF:
        return ChangeTrackingOffError(
            f"{answer}: change tracking is off for this table", action="Turn on 'Track changes' for the table"
        )
    if code == _NOT_A_MEMBER:
        return NotAMemberError(
            f"{answer}: the application or user is not a member of the organisation",
            action="Add it in the Power Platform admin center as application user of this environment, enabled and "
            "with a security role that may read the five tables",
        )
    if status == 403 or code == _PRIVILEGE:
        return _privilege_error(answer, message)
    unknown = re.search(r"Could not find a property named '([A-Za-z0-9_@.]+)'", message)
    return RequestRefusedError(
        answer + (f": it has no property {unknown[1]}" if unknown else ""),
        action="Look the code up in Dataverse's web service error codes, and check include/tables.yaml",
    )


def retry_after_seconds(value: str | None, *, now: datetime | None = None) -> float | None:
    """Seconds of a `Retry-After` header, which holds seconds or an HTTP date; None when absent or unreadable."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(0.0, (date.astimezone(UTC) - (now or datetime.now(UTC))).total_seconds())


def _privilege_error(answer: str, message: str) -> DataverseError:
    found = re.search(r"\bprv[A-Za-z0-9_]+", message)
    privilege = found[0] if found else "a privilege the answer does not name"
    if re.search(r"Required Depth: (Global|Organization)", message):
        return OrganizationReadMissingError(
            f"{answer}: change tracking needs {privilege} at organisation level",
            action=f"Set {privilege} to 'Organization' in the security role of the sync's user",
        )
    return MissingPrivilegeError(
        f"{answer}: the sync's user lacks {privilege}",
        action=f"Give {privilege} at organisation level in a security role of the sync's user",
    )


class _ErrorDetail(msgspec.Struct):
    code: str = ""
    message: str = ""


class _ErrorBody(msgspec.Struct):
    error: _ErrorDetail


def _code_and_message(body: bytes) -> tuple[str, str]:
    try:
        detail = msgspec.json.decode(body, type=_ErrorBody).error
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return "", ""
    return (detail.code.lower() if re.fullmatch(r"0x[0-9A-Fa-f]{8}", detail.code) else ""), detail.message
