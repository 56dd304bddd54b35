"""Errors of the Marketo REST API and of its tokens.

MarketoError
├── MarketoAuthenticationError  client id or secret refused; a token refused although fresh (601; transient: 602)
├── NativeSyncOnError           1018, or the role API is absent: the instance gets these objects from its own CRM sync
├── MarketoPermissionError      603: the API user's role lacks a permission
├── FeatureNotEnabledError      703
├── QuotaUsedUpError            transient: 607, or this connection's own budget of calls for the day is used up
├── MarketoThrottledError       transient: 606, 615, HTTP 429
├── MarketoServiceError         transient: HTTP 408 and 5xx, no complete or no JSON answer, 604, 608, 611, 614, 713
│                               (not transient: untrusted certificate)
├── MarketoRefusedError         any other refusal of a whole call, such as 701, 704, 718, 1003, 1011
└── MarketoProtocolError        our call or the answer is not what the API promises: 605, 609, 610, 612, 613, any other
                                HTTP status

Errors of a whole call and of single records arrive as HTTP 200. Messages name codes and Marketo's request id; its own
text is quoted without e-mail addresses, and only where it says which field was wrong.

Codes: https://experienceleague.adobe.com/en/docs/marketo-developer/marketo/rest/error-codes
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import requests

from opportunity_sync.errors import OpportunitySyncError

NOTHING_CONFIRMED = "Nothing of this call counts as loaded; what was confirmed before it stays so"

NATIVE_SYNC_ON = 1018
TOKEN_CODES = (601, 602)
"""Token invalid, token expired."""
NO_DATA_FOUND = 702

_EXPIRED = 602
_NO_PERMISSION = 603
_NOT_ENABLED = 703
_QUOTA = 607
_THROTTLING = {606: "too many calls within 20 seconds", 615: "too many calls at once", 429: "too many calls"}
_PASSING = {
    604: "the call took too long",
    608: "the API is unavailable for the moment",
    611: "a system error",
    614: "the subscription cannot be reached",
    713: "a passing error",
    408: "the call took too long",
}
_OUR_MISTAKE = {
    605: "the method is not supported",
    609: "the body is not valid JSON",
    610: "there is no such address",
    612: "the content type is not supported",
    613: "the multipart body is not valid",
    413: "the body is too large",
    414: "the address is too long",
}
_CENTRAL = ZoneInfo("America/Chicago")
_LONGEST_QUOTE = 200


class MarketoError(OpportunitySyncError):
    """Base of the errors of the Marketo client."""

    def __init__(
        self,
        what: str,
        *,
        state: str = NOTHING_CONFIRMED,
        action: str,
        code: int | None = None,
        transient: bool | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(what, state=state, action=action)
        self.code = code
        if transient is not None:
            self.transient = transient
        if retry_after is not None:
            self.retry_after = retry_after


class MarketoAuthenticationError(MarketoError):
    """There is no token, or the token is refused."""


class NativeSyncOnError(MarketoError):
    """The instance's own CRM sync owns opportunities, roles and companies."""


class MarketoPermissionError(MarketoError):
    """The role of the API user lacks a permission."""


class FeatureNotEnabledError(MarketoError):
    """The subscription does not have this feature."""


class QuotaUsedUpError(MarketoError):
    """The calls of the day are used up until midnight, US Central."""

    transient = True


class MarketoThrottledError(MarketoError):
    """More calls than the instance takes, from all its integrations together."""

    transient = True


class MarketoServiceError(MarketoError):
    """The service failed on its side, or no complete answer arrived."""

    transient = True


class MarketoRefusedError(MarketoError):
    """The service refused what the call asked for."""


class MarketoProtocolError(MarketoError):
    """The call, or the answer, is not what the API promises."""


def error_from_code(code: int, message: str, *, asked: str, permission: str, request_id: str = "") -> MarketoError:
    """The error that the code of a whole call stands for.

    Args:
        code: Marketo's, or the HTTP status where the answer holds none.
        message: Marketo's text.
        asked: what was asked for, for example `POST opportunities`.
        permission: what the API user's role needs for it, for example `Read-Write Company`.
        request_id: as Marketo's support wants it.
    """
    request = re.sub(r"[^0-9A-Za-z#_-]", "", request_id)[:40]
    answer = f"Marketo answered {code} to {asked}{f' (request {request})' if request else ''}"
    if code in TOKEN_CODES:
        return MarketoAuthenticationError(
            f"{answer}: the access token is refused, also a fresh one",
            action="Check that the API user of the Marketo service is active and the host belongs to it",
            code=code,
            transient=code == _EXPIRED,
        )
    if code == NATIVE_SYNC_ON or (code in (610, 404) and "opportunities/roles" in asked):
        return native_sync_on(answer, code)
    if code == _NO_PERMISSION:
        return MarketoPermissionError(
            f"{answer}: the API user lacks the permission {permission}",
            action=f"Give {permission} to the role of the API user (Admin, Users & Roles)",
            code=code,
        )
    if code == _NOT_ENABLED:
        return FeatureNotEnabledError(
            f"{answer}: the feature is not enabled for this subscription",
            action="Ask Adobe to enable it, or take what needs it out of include/marketo.yaml",
            code=code,
        )
    if code == _QUOTA:
        return quota_used_up(f"{answer}: the daily quota is used up", code=code)
    if code in _THROTTLING:
        return MarketoThrottledError(
            f"{answer}: {_THROTTLING[code]}",
            action="Run again later, or lower calls_per_20_seconds and concurrent_calls of the connection; all "
            "integrations of the instance share its limits",
            code=code,
        )
    if code in _PASSING or 500 <= code < 600:
        reason = _PASSING.get(code, "the service failed")
        return MarketoServiceError(f"{answer}: {reason}", action="Run again later", code=code)
    if code in _OUR_MISTAKE or code < 600:
        return protocol_error(f"{answer}: {_OUR_MISTAKE.get(code, 'not an answer the API promises')}", code=code)
    return MarketoRefusedError(
        f"{answer}: {without_addresses(message)[:_LONGEST_QUOTE]}",
        action="Look the code up in Marketo's REST error codes, and check include/marketo.yaml",
        code=code,
    )


def native_sync_on(answer: str, code: int = NATIVE_SYNC_ON) -> NativeSyncOnError:
    """The error for an instance that cannot be loaded."""
    return NativeSyncOnError(
        f"{answer}: this Marketo instance has native CRM sync on, which alone may write opportunities and companies",
        action="Remove the connection marketo_default, or use an instance without native CRM sync",
        code=code,
    )


def quota_used_up(what: str, *, code: int | None = None, now: datetime | None = None) -> QuotaUsedUpError:
    """The error for a day without calls left; asks to come back after the reset."""
    return QuotaUsedUpError(
        what,
        action="Nothing: the first run after midnight, US Central, continues (or raise daily_calls of the connection)",
        code=code,
        retry_after=seconds_until_reset(now or datetime.now(UTC)),
    )


def seconds_until_reset(now: datetime) -> float:
    """Until a minute past the next midnight, US Central, when the daily quota begins anew."""
    tomorrow = now.astimezone(_CENTRAL).date() + timedelta(days=1)
    return (datetime.combine(tomorrow, time(0, 1), _CENTRAL) - now).total_seconds()


def quota_day(now: datetime) -> str:
    """The day, US Central, to which the quota counts a call."""
    return now.astimezone(_CENTRAL).date().isoformat()


def protocol_error(what: str, *, code: int | None = None) -> MarketoProtocolError:
    """The error for a call or an answer that should not exist."""
    return MarketoProtocolError(
        what,
        action="Look at what stands between Airflow and Marketo; if nothing does, report it as a bug of the sync",
        code=code,
    )


def connection_error(error: requests.RequestException, whom: str) -> MarketoServiceError:
    """The error for a call without a complete answer."""
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return MarketoServiceError(
            f"The certificate of {whom} is not trusted",
            action="Set the CA bundle of the connection, or REQUESTS_CA_BUNDLE, to the authority that signed it",
            transient=False,
        )
    return MarketoServiceError(
        f"No complete answer from {whom} ({type(error).__name__})",
        action="Check the network, the host name and the service's health; then run again",
    )


def without_addresses(text: str) -> str:
    """Marketo's text, which may quote what was sent, without e-mail addresses."""
    return re.sub(r"[^\s'\"<>(),;:=]+@[^\s'\"<>(),;:=]+", "(e-mail address)", text)
