"""Refusals in Marketo's shape: of a whole request (6xx, 7xx), of one record (1xxx), and by HTTP status."""

from __future__ import annotations

MESSAGES = {
    601: "Access token invalid",
    602: "Access token expired",
    603: "Access denied",
    604: "Request timed out",
    605: "HTTP Method not supported",
    606: "Max rate limit exceeded",
    607: "Daily quota reached",
    608: "API Temporarily Unavailable",
    609: "Invalid JSON",
    610: "Requested resource not found",
    611: "System error",
    612: "Invalid Content Type",
    613: "Invalid Multipart Request",
    614: "Invalid Subscription",
    615: "Concurrent access limit reached",
    616: "Invalid subscription type",
    701: "A required parameter cannot be blank",
    702: "No data found",
    703: "The feature is not enabled for the subscription",
    704: "Invalid date format",
    713: "Transient Error",
    714: "Unable to find the default record type",
    718: "ExternalSalesPersonID not found",
    1001: "Invalid value",
    1002: "Missing value for a required parameter",
    1003: "Invalid data",
    1004: "Lead not found",
    1005: "Lead already exists",
    1006: "Field not found",
    1007: "Multiple leads match the lookup criteria",
    1008: "Access denied to partition",
    1009: "Partition name must be specified",
    1010: "Partition update not allowed",
    1011: "Field not supported",
    1013: "Object not found",
    1017: "Object already exists",
    1018: "CRM Enabled",
    1021: "Company update not allowed",
    1022: "Object in use",
    1036: "Duplicate object found in input",
}
"""Code to text; what a refusal says when it names nothing in particular."""

NOT_COUNTED = frozenset({601, 602, 604, 605, 608, 611})
"""Requests answered with these codes count neither towards the daily quota nor towards the rate limit."""


class RequestError(Exception):
    """A refused request: HTTP 200, `success` false, one error. Nothing of the request was executed.

    Args:
        code: Marketo's code.
        message: What Marketo says; None: the code's usual text.
    """

    def __init__(self, code: int, message: str | None = None) -> None:
        self.code, self.message = code, message or MESSAGES[code]
        super().__init__(f"{code} {self.message}")


class RecordError(Exception):
    """A skipped record: the request succeeds, this record does not.

    Args:
        code: Marketo's code.
        message: What Marketo says; None: the code's usual text.
    """

    def __init__(self, code: int, message: str | None = None) -> None:
        self.code, self.message = code, message or MESSAGES[code]
        super().__init__(f"{code} {self.message}")

    def reasons(self) -> list[dict[str, str]]:
        """The record's `reasons`; codes are text."""
        return [{"code": str(self.code), "message": self.message}]


class HttpError(Exception):
    """A refusal by HTTP status, with an HTML page as proxies send it.

    Args:
        status: HTTP status.
        title: Reason.
    """

    def __init__(self, status: int, title: str) -> None:
        super().__init__(f"{status} {title}")
        self.status, self.title = status, title


class NotSpokenError(Exception):
    """A part of the API this stand-in does not speak; answered 501, naming it."""
