from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import msgspec
import pytest
import requests

from emulator.server import Emulator
from opportunity_sync.dataverse import client as client_module
from opportunity_sync.dataverse.client import DataverseClient
from opportunity_sync.dataverse.errors import (
    ConnectionLostError,
    DataverseError,
    NotAMemberError,
    ProtocolError,
    RequestRefusedError,
    ServiceUnavailableError,
    ThrottledError,
)
from opportunity_sync.errors import ConfigurationError
from tests.stand_in import Connect, Serve

QUERY = "opportunities?$select=name"
FULL = 40
"""Opportunities of the sample organisation."""

# From a real answer; the last ones hold what requests or urllib3 would normalise.
SKIP_LINK = (
    "/api/data/v9.2/contacts?$skiptoken=%3Ccookie%20pagenumber=%222%22%20pagingcookie=%22%253ccookie%2520page%253d"
    "%25221%2522%253e%253ccontactid%2520last%253d%2522%257bD5026A4D%257d%2522%2520%252f%253e%22%20/%3E"
)
LINKS = [
    SKIP_LINK,
    "/api/data/v9.2/accounts?$select=name,fax&$deltatoken=919058%2108%2f22%2f2017%2008%3a21%3a20",
    "/api/data/v9.2/accounts?x=%7e%41%2d%2F%2f&y=a+b%2Bc'(d)*!~[e]{f}|\\^`\"<>",
]


class Bearer(requests.auth.AuthBase):
    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = "Bearer token-of-the-test"
        return request


def plain_client(url: str, **options: Any) -> DataverseClient:
    return DataverseClient(
        url, Bearer(), **({"sleep": lambda seconds: None, "timeout_seconds": 5, "retry_budget_seconds": 20} | options)
    )


def respond(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, **headers: str) -> None:
    handler.send_response(status)
    for name, value in ({"Content-Length": str(len(body))} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def rows_of(client: DataverseClient, path: str = QUERY, **options: Any) -> list[dict[str, Any]]:
    options = {"page_size": 10, "track_changes": True} | options
    return [row for page in client.pages(path, **options) for row in msgspec.json.decode(page.rows)]


@pytest.mark.parametrize(
    ("headers", "hint"),
    [
        (["7"], 7),
        (["7", "3"], 3),
        (["7", None], 7),
        (["7", "many", "0", "-2", "", "1,000", "²"], 7),
        ([None], None),
    ],
)
def test_the_newest_suggestion_of_how_many_requests_at_once_is_kept(
    serve: Serve, headers: list[str | None], hint: int | None
) -> None:
    told = iter(headers)
    who = json.dumps(dict.fromkeys(("OrganizationId", "UserId", "BusinessUnitId"), "x")).encode()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        found = next(told)
        respond(handler, who, **({} if found is None else {"x-ms-dop-hint": found}))

    with plain_client(serve(answer)) as client:
        for _ in headers:
            client.who_am_i()
        assert client.dop_hint == hint


def test_a_refusal_may_suggest_fewer_requests_at_once(serve: Serve) -> None:
    with (
        plain_client(serve(lambda handler: respond(handler, b"", 400, **{"x-ms-dop-hint": "2"}))) as client,
        pytest.raises(RequestRefusedError),
    ):
        client.who_am_i()
    assert client.dop_hint == 2


def test_who_am_i_tells_organisation_user_and_business_unit(organisation: Emulator, connect: Connect) -> None:
    who = connect(organisation).who_am_i()
    assert who.organization_id == organisation.organization_id.lower()
    assert who.user_id != who.business_unit_id


def test_pages_hold_every_row_once_and_only_the_last_one_a_delta_link(organisation: Emulator, connect: Connect) -> None:
    pages = list(connect(organisation).pages(QUERY, page_size=10, track_changes=True))
    assert [page.number for page in pages] == [1, 2, 3, 4]
    ids = [row["opportunityid"] for page in pages for row in msgspec.json.decode(page.rows)]
    assert sorted(ids) == sorted(row["opportunityid"] for row in organisation.store.rows("opportunity"))
    assert [bool(page.next_link) for page in pages] == [True, True, True, False]
    assert [bool(page.delta_link) for page in pages] == [False, False, False, True]
    assert all(page.requested_at <= page.received_at for page in pages)
    assert all(page.requested_at.tzinfo for page in pages)


def test_preferences_are_repeated_on_every_page(organisation: Emulator, connect: Connect) -> None:
    rows_of(connect(organisation), annotations=("Microsoft.Dynamics.CRM.lookuplogicalname",))
    prefer = (
        'odata.maxpagesize=10,odata.include-annotations="Microsoft.Dynamics.CRM.lookuplogicalname",odata.track-changes'
    )
    asked = [request for request in organisation.requests if "opportunities" in request.path]
    assert [request.headers["prefer"] for request in asked] == [prefer] * 4


def test_a_delta_link_leads_to_the_changes_and_to_a_new_link(organisation: Emulator, connect: Connect) -> None:
    client = connect(organisation)
    *_, last = client.pages(QUERY, page_size=10, track_changes=True)
    assert last.delta_link is not None
    row_id = organisation.store.create("opportunity", {"name": "new one"})
    (page,) = client.pages(last.delta_link, page_size=10, track_changes=True)
    assert [row["opportunityid"] for row in msgspec.json.decode(page.rows)] == [row_id]
    assert page.delta_link not in (None, last.delta_link)


def test_a_link_works_on_another_address_of_the_same_organisation(
    start_organisation: Callable[..., Emulator], connect: Connect, tmp_path_factory: pytest.TempPathFactory
) -> None:
    state = tmp_path_factory.mktemp("state")
    first = start_organisation(state_dir=state)
    *_, last = connect(first).pages(QUERY, page_size=1000, track_changes=True)
    second = start_organisation(state_dir=state)
    assert last.delta_link is not None
    assert last.delta_link.startswith("/api/data/")
    assert rows_of(connect(second), last.delta_link) == []


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("absolute", [True, False])
def test_links_are_followed_byte_for_byte(serve: Serve, link: str, absolute: bool) -> None:
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        next_link = {"@odata.nextLink": (url if absolute else "") + link} if len(asked) == 1 else {}
        respond(handler, json.dumps({"value": [], **next_link}).encode())

    url = serve(answer)
    with plain_client(url) as client:
        assert rows_of(client, "contacts?$select=fullname", track_changes=False) == []
    assert asked == ["/api/data/v9.2/contacts?$select=fullname", link]


def test_only_what_cannot_stand_in_a_request_line_is_encoded(serve: Serve) -> None:
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        respond(handler, b'{"value":[]}')

    with plain_client(serve(answer)) as client:
        rows_of(client, "contacts?a=b c\né&d=%2f", track_changes=False)
    assert asked == ["/api/data/v9.2/contacts?a=b%20c%0A%C3%A9&d=%2f"]


@pytest.mark.parametrize(
    "link",
    [
        "https://elsewhere.example.com/api/data/v9.2/contacts?$skiptoken=1",
        "//elsewhere.example.com/api/data/v9.2/contacts",
        "http://127.0.0.1:1/api/data/v9.2/contacts",
        "contacts?$skiptoken=1",
    ],
)
@pytest.mark.parametrize("kind", ["nextLink", "deltaLink"])
def test_a_link_to_another_host_is_refused_before_any_token_is_sent_there(serve: Serve, link: str, kind: str) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        respond(handler, json.dumps({"value": [], f"@odata.{kind}": link}).encode())

    with plain_client(serve(answer)) as client, pytest.raises(ProtocolError, match="another host") as caught:
        rows_of(client)
    assert not caught.value.transient


def test_redirects_are_not_followed(serve: Serve) -> None:
    asked: list[str] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        respond(handler, b"", status=302, Location="/login")

    with plain_client(serve(answer)) as client, pytest.raises(RequestRefusedError, match="302"):
        client.who_am_i()
    assert len(asked) == 1


def test_a_page_without_next_and_delta_link_is_an_error_not_the_end(organisation: Emulator, connect: Connect) -> None:
    organisation.set_faults([{"action": "drop_delta_link"}])
    with pytest.raises(ProtocolError, match="Page 4 of opportunities has neither a next nor a delta link"):
        rows_of(connect(organisation))


def test_a_page_that_links_to_itself_is_an_error(serve: Serve) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        respond(handler, json.dumps({"value": [], "@odata.nextLink": "/api/data/v9.2/contacts?$skiptoken=1"}).encode())

    with plain_client(serve(answer)) as client, pytest.raises(ProtocolError, match="links to itself"):
        rows_of(client, "contacts")


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "throttle", "code": "requests", "retry_after": 3},
        {"action": "throttle", "code": "time", "retry_after": 3},
        {"action": "throttle", "code": "concurrency", "retry_after": 3},
        {"action": "status", "status": 500},
        {"action": "status", "status": 502},
        {"action": "status", "status": 503},
        {"action": "reset"},
        {"action": "truncate"},
        {"action": "html"},
        {"action": "rubbish"},
    ],
    ids=lambda fault: "-".join(str(value) for value in fault.values()),
)
def test_a_passing_fault_costs_a_wait_and_no_row(
    organisation: Emulator, connect: Connect, caplog: pytest.LogCaptureFixture, fault: dict[str, object]
) -> None:
    waits: list[float] = []
    organisation.set_faults([{**fault, "table": "opportunity", "nth": [2, 3, 6]}])
    ids = [row["opportunityid"] for row in rows_of(connect(organisation, sleep=waits.append))]
    assert len(ids) == len(set(ids)) == FULL
    assert len(waits) == 3
    if "retry_after" in fault:
        assert all(3 <= wait <= 4 for wait in waits)
    assert [record.levelname for record in caplog.records if "waiting" in record.message] == ["WARNING"] * 3


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"action": "throttle", "retry_after": 7}, ThrottledError),
        ({"action": "status", "status": 503}, ServiceUnavailableError),
        ({"action": "reset"}, ConnectionLostError),
        ({"action": "truncate"}, ConnectionLostError),
        ({"action": "html"}, ProtocolError),
        ({"action": "rubbish"}, ProtocolError),
    ],
)
def test_a_fault_that_stays_ends_in_its_own_transient_error_after_the_budget(
    organisation: Emulator, connect: Connect, fault: dict[str, object], error: type[DataverseError]
) -> None:
    waits: list[float] = []
    organisation.set_faults([{**fault, "table": "opportunity", "after": 2}])
    client = connect(organisation, sleep=waits.append, retry_budget_seconds=30)
    numbers = []
    with pytest.raises(error) as caught:
        numbers.extend(page.number for page in client.pages(QUERY, page_size=10, track_changes=True))
    assert caught.value.transient
    assert sum(waits) <= 30
    assert "Given up after" in caught.value.__notes__[0]


def test_silence_of_the_service_is_a_lost_connection(organisation: Emulator, connect: Connect) -> None:
    organisation.set_faults([{"action": "slow", "seconds": 1.5, "table": "opportunity", "nth": 2}])
    waits: list[float] = []
    assert len(rows_of(connect(organisation, timeout_seconds=0.5, sleep=waits.append))) == FULL
    assert len(waits) == 1


def test_nobody_at_the_address_is_a_lost_connection(serve: Serve) -> None:
    with (
        plain_client("http://127.0.0.1:9", retry_budget_seconds=0) as client,
        pytest.raises(ConnectionLostError, match=r"http://127\.0\.0\.1:9"),
    ):
        client.who_am_i()


def test_a_refusal_is_not_retried(organisation: Emulator, connect: Connect) -> None:
    waits: list[float] = []
    organisation.set_privileges(member=False)
    with pytest.raises(NotAMemberError):
        connect(organisation, sleep=waits.append).who_am_i()
    assert waits == []


def test_cookies_of_the_service_are_dropped(serve: Serve) -> None:
    cookies: list[str | None] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        cookies.append(handler.headers["Cookie"])
        body = b'{"OrganizationId":"A","UserId":"B","BusinessUnitId":"C"}'
        respond(handler, body, Set_Cookie="ARRAffinity=1; path=/")

    with plain_client(serve(answer)) as client:
        client.who_am_i()
        assert client.who_am_i().organization_id == "a"
    assert cookies == [None, None]


def test_compressed_answers_are_read(serve: Serve) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        respond(handler, gzip.compress(b'{"value":[{"name":"x"}]}'), Content_Encoding="gzip")

    with plain_client(serve(answer)) as client:
        assert rows_of(client, track_changes=False) == [{"name": "x"}]


def test_headers_of_the_web_api_are_sent(serve: Serve) -> None:
    seen: dict[str, str] = {}

    def answer(handler: BaseHTTPRequestHandler) -> None:
        seen.update(handler.headers.items())
        respond(handler, b'{"value":[]}')

    with plain_client(serve(answer)) as client:
        rows_of(client, track_changes=False)
    expected = {
        "Accept": "application/json",
        "OData-Version": "4.0",
        "OData-MaxVersion": "4.0",
        "Authorization": "Bearer token-of-the-test",
    }
    assert expected.items() <= seen.items()
    assert seen["User-Agent"].startswith("opportunity-sync/")
    assert "X-Exact-Target" not in seen


@pytest.mark.parametrize("body", [b'{"value":{}}', b"[]", b'{"values":[]}', b'{"value":[1,'])
def test_a_body_without_an_array_of_rows_is_refused(serve: Serve, body: bytes) -> None:
    url = serve(lambda handler: respond(handler, body))
    with (
        plain_client(url, retry_budget_seconds=0) as client,
        pytest.raises(ProtocolError, match="not the promised JSON"),
    ):
        rows_of(client)


def test_an_answer_too_large_for_memory_names_the_setting(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "LARGEST_ANSWER_BYTES", 1000)
    body = json.dumps({"value": ["x" * 2000]}).encode()
    url = serve(lambda handler: respond(handler, body))
    with plain_client(url) as client, pytest.raises(ProtocolError, match="OPPORTUNITY_SYNC_PAGE_SIZE"):
        rows_of(client)


@pytest.mark.parametrize(
    "url",
    [
        "contoso.crm.dynamics.com",
        "http://contoso.crm.dynamics.com",
        "https://contoso.crm.dynamics.com/api/data",
        "https://",
        "",
    ],
)
def test_a_url_that_is_not_an_organisations_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="not the URL of an organisation"):
        DataverseClient(url, Bearer())


def test_neither_token_nor_link_shows_in_our_logs(
    organisation: Emulator, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="opportunity_sync")
    organisation.set_faults([{"action": "status", "status": 503, "nth": [2, 5]}, {"action": "unauthorized", "nth": 3}])
    client = connect(organisation)
    rows_of(client)
    ours = "".join(record.getMessage() for record in caplog.records if record.name.startswith("opportunity_sync"))
    assert "503" in ours
    for hidden in ("skiptoken", "deltatoken", "Bearer", client._auth._token):  # type: ignore[attr-defined]
        assert hidden not in ours
