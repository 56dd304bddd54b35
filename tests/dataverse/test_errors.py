from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime

import pytest

from opportunity_sync.dataverse import errors
from opportunity_sync.dataverse.errors import DataverseError, error_from_response, retry_after_seconds

PRIVILEGE = (
    "SecLib::CheckPrivilege failed. User: 5c0f3a1e-0000-0000-0000-000000000001, PrivilegeName: prvReadOpportunity, "
    "PrivilegeId: 0, Required Depth: {depth}, BusinessUnitId: 0"
)


def answer(status: int, code: str = "", message: str = "", headers: dict[str, str] | None = None) -> DataverseError:
    body = json.dumps({"error": {"code": code, "message": message}}).encode()
    return error_from_response(status, headers or {}, body, path="opportunities")


@pytest.mark.parametrize(
    ("status", "code", "message", "error", "words"),
    [
        (429, "0x80072322", "", errors.ThrottledError, "too many requests within five minutes"),
        (429, "0x80072321", "", errors.ThrottledError, "too much execution time"),
        (429, "0x80072326", "", errors.ThrottledError, "too many requests at once"),
        (429, "", "", errors.ThrottledError, "service protection limit"),
        (500, "0x80040216", "", errors.ServiceUnavailableError, "500"),
        (502, "", "", errors.ServiceUnavailableError, "502"),
        (503, "", "", errors.ServiceUnavailableError, "503"),
        (501, "0x80060892", "", errors.RequestRefusedError, "501"),
        (401, "", "", errors.AuthenticationError, "access token is refused"),
        (403, "0x80072560", "", errors.NotAMemberError, "not a member of the organisation"),
        (403, "0x80040220", PRIVILEGE.format(depth="Basic"), errors.MissingPrivilegeError, "lacks prvReadOpportunity"),
        (
            403,
            "0x80040220",
            PRIVILEGE.format(depth="Global"),
            errors.OrganizationReadMissingError,
            "prvReadOpportunity at organisation level",
        ),
        (400, "0x80044352", "", errors.DeltaLinkExpiredError, "expired"),
        (410, "", "", errors.DeltaLinkExpiredError, "expired"),
        (400, "0x80072491", "", errors.ChangeTrackingOffError, "change tracking is off"),
        (
            400,
            "0x80060888",
            "Could not find a property named 'colour' on type 'Microsoft.Dynamics.CRM.opportunity'.",
            errors.RequestRefusedError,
            "no property colour",
        ),
        (404, "0x8006088a", "", errors.RequestRefusedError, "404"),
        (302, "", "", errors.RequestRefusedError, "302"),
    ],
)
def test_an_answer_becomes_the_error_of_its_status_and_code(
    status: int, code: str, message: str, error: type[DataverseError], words: str
) -> None:
    found = answer(status, code, message)
    assert type(found) is error
    assert words in str(found)
    assert code in str(found)
    assert found.transient == (error in (errors.ThrottledError, errors.ServiceUnavailableError))


def test_the_services_text_is_not_quoted_because_it_may_hold_personal_data() -> None:
    for found in (
        answer(403, "0x80040220", PRIVILEGE.format(depth="Basic")),
        answer(400, "0x80040265", "Contact Jane Doe jane@example.com is a duplicate"),
        answer(500, "not a code of theirs: Jane Doe", "Jane Doe"),
    ):
        assert "Jane" not in str(found)
        assert "5c0f3a1e" not in str(found)


@pytest.mark.parametrize("body", [b"", b"<html>Bad gateway</html>", b'{"error": "text"}', b"\xff\xfe", b"[1]"])
def test_any_body_will_do(body: bytes) -> None:
    assert isinstance(error_from_response(502, {}, body, path="contacts"), errors.ServiceUnavailableError)


def test_retry_after_is_carried_by_the_error() -> None:
    assert answer(429, "0x80072322", headers={"Retry-After": "17"}).retry_after == 17
    assert answer(503, headers={"Retry-After": "2"}).retry_after == 2
    assert answer(503).retry_after is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("12", 12),
        ("0.5", 0.5),
        ("-3", 0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30),
        ("Wed, 21 Oct 2026 07:27:00 GMT", 0),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, now=datetime(2026, 10, 21, 7, 28, tzinfo=UTC)) == seconds


def test_errors_survive_the_way_between_processes() -> None:
    found = pickle.loads(pickle.dumps(answer(429, "0x80072322", headers={"Retry-After": "17"})))  # noqa: S301
    assert type(found) is errors.ThrottledError
    assert found.retry_after == 17
    assert str(found) == str(answer(429, "0x80072322"))
