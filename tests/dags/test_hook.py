from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from emulator.server import Emulator
from opportunity_sync.errors import ConfigurationError
from opportunity_sync.settings import Settings

if TYPE_CHECKING:
    from airflow.sdk import Connection

SECRET = "hunter2-hunter2"
TENANT = {"tenant": "contoso.onmicrosoft.com"}


def _connection(extra: Any = TENANT, **fields: Any) -> Connection:
    from airflow.sdk import Connection

    values = {"host": "https://contoso.crm.dynamics.com", "login": "app", "password": SECRET} | fields
    text = extra if isinstance(extra, str) or extra is None else json.dumps(extra)
    return Connection(conn_id="dataverse_default", conn_type="generic", extra=text, **values)


def test_a_connection_with_host_login_password_and_tenant_is_enough() -> None:
    from opportunity_sync.dataverse.hook import read_credentials

    found = read_credentials(_connection())
    assert (found.kind, found.organization_url) == ("secret", "https://contoso.crm.dynamics.com")
    assert (found.client_id, found.secret, found.tenant) == ("app", SECRET, "contoso.onmicrosoft.com")
    assert found.authority_url == "https://login.microsoftonline.com/contoso.onmicrosoft.com"
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("extra", "field", "value"),
    [
        ({"certificate": "/keys/app.pem"}, "kind", "certificate"),
        ({"certificate": "/keys/app.pem"}, "certificate", "/keys/app.pem"),
        ({"certificate": "/keys/app.pem", "certificate_thumbprint": "AB12"}, "thumbprint", "AB12"),
        ({"certificate": "/keys/app.pem", "certificate_password": "p"}, "passphrase", "p"),
        ({"kind": "managed_identity"}, "kind", "managed_identity"),
        ({"kind": "password", "username": "sync@contoso.com", "user_password": "p"}, "username", "sync@contoso.com"),
        ({"kind": "password", "username": "sync@contoso.com", "user_password": "p"}, "password", "p"),
        ({"authority": "https://login.microsoftonline.us"}, "authority", "https://login.microsoftonline.us"),
        ({"ca_bundle": "/ca.pem"}, "ca_bundle", "/ca.pem"),
        ({"ca_bundle": ""}, "ca_bundle", None),
    ],
)
def test_every_extra_field_reaches_the_credentials(extra: dict[str, str], field: str, value: object) -> None:
    from opportunity_sync.dataverse.hook import read_credentials

    assert getattr(read_credentials(_connection({**TENANT, **extra})), field) == value


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "contoso.crm.dynamics.com"}, "https://contoso.crm.dynamics.com"),
        ({"host": "https://contoso.crm.dynamics.com/"}, "https://contoso.crm.dynamics.com"),
        ({"host": "https://localhost", "port": 8443}, "https://localhost:8443"),
        ({"host": "https://localhost:8443"}, "https://localhost:8443"),
    ],
)
def test_the_host_is_the_organisations_url(fields: dict[str, Any], url: str) -> None:
    from opportunity_sync.dataverse.hook import read_credentials

    assert read_credentials(_connection(**fields)).organization_url == url


@pytest.mark.parametrize(
    ("connection", "named"),
    [
        ({"host": ""}, "host is empty"),
        ({"host": "http://contoso.crm.dynamics.com"}, "not the https URL"),
        ({"host": "https://contoso.crm.dynamics.com/api/data/v9.2"}, "not the https URL"),
        ({"extra": {"tennant": "x"}}, "unknown key 'tennant'; allowed: kind, tenant, authority"),
        ({"extra": {"tenant": 5}}, "extra tenant is not text"),
        ({"extra": {**TENANT, "kind": "magic"}}, "allowed: secret, certificate, managed_identity, password"),
        ({"extra": "{"}, "not JSON"),
        ({"extra": "[]"}, "not a JSON object"),
        ({"extra": None}, "tenant"),
        ({"login": ""}, "client_id"),
        ({"extra": {**TENANT, "kind": "password"}}, "username"),
    ],
)
def test_a_wrong_field_is_an_error_that_names_it_and_never_the_secret(connection: Any, named: str) -> None:
    from opportunity_sync.dataverse.hook import read_credentials

    with pytest.raises(ConfigurationError, match=r"(C|c)onnection|Credentials") as caught:
        read_credentials(_connection(**connection))
    assert named in str(caught.value)
    assert SECRET not in str(caught.value)
    assert not caught.value.transient


@pytest.fixture
def stand_in_connection(
    start_organisation: Callable[..., Emulator], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    organisation = start_organisation()

    def set_connection(**changed: str) -> None:
        extra = {"tenant": organisation.tenant, "authority": organisation.url, "ca_bundle": organisation.ca_bundle}
        connection = {
            "conn_type": "generic",
            "host": organisation.url,
            "login": organisation.client_id,
            "password": organisation.client_secret,
            "extra": extra,
        }
        monkeypatch.setenv("AIRFLOW_CONN_DATAVERSE_DEFAULT", json.dumps(connection | changed))

    return set_connection


def test_testing_the_connection_says_as_whom_it_signed_in(stand_in_connection: Callable[..., None]) -> None:
    from opportunity_sync.dataverse.hook import DataverseHook

    stand_in_connection()
    works, text = DataverseHook().test_connection()
    assert works, text
    assert "organisation" in text


def test_testing_a_connection_with_a_wrong_secret_says_what_to_set(stand_in_connection: Callable[..., None]) -> None:
    from opportunity_sync.dataverse.hook import DataverseHook

    stand_in_connection(password=SECRET)
    works, text = DataverseHook().test_connection()
    assert not works
    assert "the client secret is wrong" in text
    assert SECRET not in text


def test_the_client_takes_its_limits_from_the_settings(stand_in_connection: Callable[..., None]) -> None:
    from opportunity_sync.dataverse.hook import DataverseHook

    stand_in_connection()
    settings = Settings(request_timeout_seconds=7, retry_budget_seconds=3)
    with DataverseHook().client(settings) as client:
        assert client.who_am_i().organization_id
