from __future__ import annotations

import json
import logging
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from emulator.server import Emulator
from opportunity_sync.dataverse.auth import Credentials, DataverseAuth, request_token
from opportunity_sync.dataverse.client import DataverseClient
from opportunity_sync.dataverse.errors import (
    AuthenticationError,
    ConnectionLostError,
    ServiceUnavailableError,
    ThrottledError,
)
from opportunity_sync.errors import ConfigurationError
from tests.stand_in import Connect, Serve, credentials_of

TOKEN_PATH = "oauth2/v2.0/token"
DISCOVERY_PATH = "openid-configuration"


@pytest.mark.parametrize("kind", ["secret", "certificate", "password", "password with secret"])
def test_each_kind_of_credentials_gets_a_token_the_organisation_accepts(
    organisation: Emulator, connect: Connect, kind: str
) -> None:
    changes = {
        "secret": {},
        "certificate": {"kind": "certificate", "certificate": organisation.certificate, "secret": None},
        "password": {
            "kind": "password",
            "username": organisation.username,
            "password": organisation.password,
            "secret": None,
        },
        "password with secret": {
            "kind": "password",
            "username": organisation.username,
            "password": organisation.password,
        },
    }[kind]
    client = connect(organisation, credentials_of(organisation, **changes))
    assert client.who_am_i().organization_id == organisation.organization_id.lower()


def test_the_tenant_is_appended_to_an_authority_without_one(organisation: Emulator, connect: Connect) -> None:
    credentials = credentials_of(organisation, authority=organisation.url, tenant=organisation.tenant)
    assert credentials.authority_url == organisation.authority
    assert connect(organisation, credentials).who_am_i().user_id


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"secret": "wrong-secret-value"}, "AADSTS7000215", "client secret is wrong"),
        ({"secret": "stand-in-expired-secret"}, "AADSTS7000222", "secret has expired"),
        ({"authority": "{url}/99999999-0000-4000-8000-000000000000"}, "AADSTS90002", "tenant is unknown"),
        ({"client_id": "99999999-0000-4000-8000-000000000001"}, "AADSTS700016", "application is unknown"),
        (
            {"kind": "password", "username": "sync@example.com", "password": "wrong-password"},
            "AADSTS50126",
            "user name or password is wrong",
        ),
        ({"organization_url": "https://other.example.com"}, "AADSTS1002012", "token request was refused"),
    ],
)
def test_a_refusal_of_the_token_is_final_and_says_what_to_set(
    organisation: Emulator,
    connect: Connect,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, str],
    code: str,
    words: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    changes = {key: value.format(url=organisation.url) for key, value in changes.items()}
    client = connect(organisation, credentials_of(organisation, **changes))
    with pytest.raises(AuthenticationError) as caught:
        client.who_am_i()
    assert code in str(caught.value)
    assert words in str(caught.value)
    assert not caught.value.transient
    for shown in (str(caught.value), repr(caught.value), caplog.text):
        assert "Correlation" not in shown
        for secret in (organisation.client_secret, organisation.password, changes.get("secret"), "wrong-password"):
            assert secret is None or secret not in shown
    assert not [request for request in organisation.requests if request.authorized]


def test_secrets_do_not_show_in_credentials() -> None:
    credentials = Credentials(
        kind="password",
        organization_url="https://contoso.crm.dynamics.com",
        tenant="contoso.com",
        client_id="app",
        secret="hidden-1",
        username="sync@contoso.com",
        password="hidden-2",
        passphrase="hidden-3",
    )
    assert "hidden" not in repr(credentials)
    assert credentials.scope == "https://contoso.crm.dynamics.com/.default"


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ({"kind": "secret", "client_id": "a", "tenant": "t"}, "secret"),
        ({"kind": "secret", "secret": "s", "client_id": "a"}, "tenant"),
        ({"kind": "certificate", "client_id": "a", "tenant": "t"}, "certificate"),
        ({"kind": "password", "client_id": "a", "tenant": "t", "username": "u"}, "password"),
    ],
)
def test_a_missing_field_of_the_credentials_is_named(fields: dict[str, str], missing: str) -> None:
    with pytest.raises(ConfigurationError, match=f"need {missing}"):
        Credentials(organization_url="https://contoso.crm.dynamics.com", **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        ("nothing of use", "holds no certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "holds no private key"),
    ],
)
def test_an_unusable_certificate_file_is_named(
    organisation: Emulator, tmp_path: Path, content: str | None, words: str
) -> None:
    path = tmp_path / "application.pem"
    if content is not None:
        path.write_text(content)
    credentials = credentials_of(organisation, kind="certificate", certificate=str(path))
    with pytest.raises(ConfigurationError, match=words) as caught:
        request_token(credentials, timeout_seconds=5)
    assert "application.pem" in str(caught.value)


def test_a_token_is_used_until_shortly_before_it_expires(organisation: Emulator) -> None:
    now = 0.0
    auth = DataverseAuth(credentials_of(organisation), clock=lambda: now)
    with DataverseClient(organisation.url, auth, ca_bundle=organisation.ca_bundle) as client:
        client.who_am_i()
        first = auth._token
        now = 3200.0
        client.who_am_i()
        assert auth._token == first
        now = 3301.0
        client.who_am_i()
        assert auth._token != first


def test_an_expired_token_is_renewed_once_and_the_request_goes_on(organisation: Emulator, connect: Connect) -> None:
    client = connect(organisation)
    client.who_am_i()
    organisation.advance_clock(4000)
    organisation.clear_requests()
    assert client.who_am_i().user_id
    assert [request.authorized for request in organisation.requests] == [False, True]


def test_a_revoked_token_is_renewed_in_the_middle_of_paging(organisation: Emulator, connect: Connect) -> None:
    client = connect(organisation)
    numbers = []
    for page in client.pages("opportunities?$select=name", page_size=10, track_changes=True):
        numbers.append(page.number)
        organisation.revoke_tokens()
    assert numbers == [1, 2, 3, 4]


def test_a_token_refused_also_when_fresh_is_final(organisation: Emulator, connect: Connect) -> None:
    organisation.set_faults([{"action": "unauthorized", "times": 2}])
    client = connect(organisation)
    with pytest.raises(AuthenticationError, match="also a fresh one") as caught:
        client.who_am_i()
    assert not caught.value.transient
    assert client.who_am_i().user_id, "a third request was refused, so the first call sent more or fewer than two"


@pytest.mark.parametrize("path", [TOKEN_PATH, DISCOVERY_PATH])
@pytest.mark.parametrize(
    ("fault", "wait"),
    [
        ({"action": "throttle", "retry_after": 7}, 7),
        ({"action": "status", "status": 503}, None),
        ({"action": "status", "status": 500}, None),
        ({"action": "reset"}, None),
    ],
)
def test_a_transient_failure_of_the_token_endpoint_is_retried_with_a_new_msal_application(
    organisation: Emulator, connect: Connect, path: str, fault: dict[str, object], wait: float | None
) -> None:
    waits: list[float] = []
    organisation.set_faults([{**fault, "path": path, "times": 2}])
    client = connect(organisation, sleep=waits.append)
    assert client.who_am_i().user_id
    assert len(waits) == 2
    if wait is not None:
        assert all(wait <= waited <= wait + 1 for waited in waits)


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"action": "throttle", "retry_after": 30}, ThrottledError),
        ({"action": "status", "status": 502}, ServiceUnavailableError),
        ({"action": "reset"}, ConnectionLostError),
    ],
)
def test_a_token_endpoint_that_stays_down_ends_in_its_own_error(
    organisation: Emulator, connect: Connect, fault: dict[str, object], error: type[Exception]
) -> None:
    organisation.set_faults([{**fault, "path": TOKEN_PATH}])
    with pytest.raises(error, match="token endpoint") as caught:
        connect(organisation, retry_budget_seconds=20).who_am_i()
    assert caught.value.transient  # type: ignore[attr-defined]


def test_a_configured_ca_bundle_wins_over_the_environment(
    organisation: Emulator, connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(_other_authority(tmp_path)))
    assert connect(organisation).who_am_i().user_id


def test_the_environments_ca_bundle_counts_when_none_is_configured(
    organisation: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = replace(credentials_of(organisation), ca_bundle=None)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", organisation.ca_bundle)
    with DataverseClient(organisation.url, DataverseAuth(credentials)) as client:
        assert client.who_am_i().user_id


@pytest.mark.parametrize("whose", ["token", "service"])
def test_an_untrusted_certificate_is_final_and_says_what_to_set(
    organisation: Emulator, tmp_path: Path, whose: str
) -> None:
    other = str(_other_authority(tmp_path))
    credentials = credentials_of(organisation, ca_bundle=other if whose == "token" else organisation.ca_bundle)
    client = DataverseClient(organisation.url, DataverseAuth(credentials), ca_bundle=other)
    with client, pytest.raises(ConnectionLostError, match="CA bundle") as caught:
        client.who_am_i()
    assert not caught.value.transient
    assert ("token endpoint" in str(caught.value)) == (whose == "token")


@pytest.mark.parametrize("client_id", [None, "99999999-0000-4000-8000-00000000000c"])
def test_a_managed_identity_asks_the_platforms_endpoint(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, client_id: str | None
) -> None:
    asked: list[tuple[dict[str, list[str]], str | None]] = []

    def answer(handler: BaseHTTPRequestHandler) -> None:
        asked.append((parse_qs(urlsplit(handler.path).query), handler.headers["X-IDENTITY-HEADER"]))
        status = 503 if len(asked) == 1 else 200
        body = json.dumps({"access_token": "managed", "expires_on": "4102444800", "token_type": "Bearer"}).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    monkeypatch.setenv("IDENTITY_ENDPOINT", serve(answer) + "/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "platform-header")
    credentials = Credentials(
        kind="managed_identity", organization_url="https://contoso.crm.dynamics.com/", client_id=client_id
    )
    with pytest.raises(ServiceUnavailableError):
        request_token(credentials, timeout_seconds=5)
    token, lifetime = request_token(credentials, timeout_seconds=5)
    assert token == "managed"
    assert lifetime > 3600
    query, header = asked[-1]
    assert header == "platform-header"
    assert query["resource"] == ["https://contoso.crm.dynamics.com"]
    assert query.get("client_id") == ([client_id] if client_id else None)


def test_a_managed_identity_the_platform_refuses_is_final(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        body = b'{"statusCode": 400, "message": "No User Assigned or Delegated Managed Identity found"}'
        handler.send_response(400)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    monkeypatch.setenv("IDENTITY_ENDPOINT", serve(answer))
    monkeypatch.setenv("IDENTITY_HEADER", "platform-header")
    credentials = Credentials(kind="managed_identity", organization_url="https://contoso.crm.dynamics.com")
    with pytest.raises(AuthenticationError):
        request_token(credentials, timeout_seconds=5)


def _other_authority(folder: Path) -> Path:
    import trustme

    path = folder / "other-ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return path
