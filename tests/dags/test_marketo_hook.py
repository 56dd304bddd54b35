from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from emulator.marketo.server import MarketoEmulator, running
from opportunity_sync.errors import ConfigurationError
from opportunity_sync.settings import Settings

if TYPE_CHECKING:
    from airflow.sdk import Connection

SECRET = "hunter2-hunter2"
HOST = "https://123-abc-456.mktorest.com"


def _connection(extra: Any = None, **fields: Any) -> Connection:
    from airflow.sdk import Connection

    values = {"host": HOST, "login": "client", "password": SECRET} | fields
    text = extra if isinstance(extra, str) or extra is None else json.dumps(extra)
    return Connection(conn_id="marketo_default", conn_type="generic", extra=text, **values)


def test_a_connection_with_host_login_and_password_is_enough() -> None:
    from opportunity_sync.marketo.hook import read_credentials

    found = read_credentials(_connection())
    assert (found.base_url, found.client_id, found.client_secret) == (HOST, "client", SECRET)
    assert found.ca_bundle is None
    assert SECRET not in repr(found)


@pytest.mark.parametrize(
    ("fields", "url"),
    [
        ({"host": "123-abc-456.mktorest.com"}, HOST),
        ({"host": f"{HOST}/rest"}, HOST),
        ({"host": "https://localhost", "port": 8443}, "https://localhost:8443"),
        ({"host": "https://localhost:8443"}, "https://localhost:8443"),
        ({"host": "https://localhost:8443", "port": 8443}, "https://localhost:8443"),
    ],
)
def test_the_host_is_the_instances_url(fields: dict[str, Any], url: str) -> None:
    from opportunity_sync.marketo.hook import read_credentials

    assert read_credentials(_connection(**fields)).base_url == url


@pytest.mark.parametrize(
    ("connection", "named"),
    [
        ({"host": ""}, "host missing"),
        ({"login": "", "password": ""}, "login, password missing"),
        ({"host": "http://123.mktorest.com"}, "no instance's URL"),
        ({"extra": {"calls": 5}}, "unknown key 'calls'; allowed: calls_per_20_seconds, concurrent_calls"),
        ({"extra": {"daily_calls": "many"}}, "extra daily_calls is not a whole number"),
        ({"extra": {"daily_calls": -1}}, "extra daily_calls is not a whole number"),
        ({"extra": "{"}, "not JSON"),
        ({"extra": "[]"}, "not a JSON object"),
    ],
)
def test_a_wrong_field_is_an_error_that_names_it_and_never_the_secret(connection: Any, named: str) -> None:
    from opportunity_sync.marketo.hook import read_credentials

    with pytest.raises(ConfigurationError) as caught:
        read_credentials(_connection(**connection))
    assert named in str(caught.value)
    assert "marketo" in str(caught.value)
    assert SECRET not in str(caught.value)


Connect = Callable[..., MarketoEmulator]


@pytest.fixture
def connect(tls_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    """Make `marketo_default` the connection of a stand-in."""
    with running(tls_dir=tls_dir) as emulator:

        def start(extra: dict[str, Any] | None = None, **changed: str) -> MarketoEmulator:
            connection = {
                "conn_type": "generic",
                "host": emulator.url,
                "login": emulator.client_id,
                "password": emulator.client_secret,
                "extra": {"ca_bundle": emulator.ca_bundle} | (extra or {}),
            }
            monkeypatch.setenv("AIRFLOW_CONN_MARKETO_DEFAULT", json.dumps(connection | changed))
            return emulator

        yield start


def test_testing_the_connection_says_how_many_calls_were_made_today(connect: Connect) -> None:
    from opportunity_sync.marketo.hook import MarketoHook

    emulator = connect()
    emulator.set_used_today(41)
    works, text = MarketoHook().test_connection()
    assert works, text
    assert text == f"Signed in to {emulator.url}, which has had 42 calls today"


def test_testing_a_connection_with_a_wrong_secret_says_what_to_set(connect: Connect) -> None:
    from opportunity_sync.marketo.hook import MarketoHook

    connect(password=SECRET)
    works, text = MarketoHook().test_connection()
    assert not works
    assert "client id or client secret is refused" in text
    assert SECRET not in text


def test_the_limits_of_the_connection_are_shared_by_all_its_clients(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opportunity_sync.marketo import client as client_module
    from opportunity_sync.marketo.hook import MarketoHook
    from opportunity_sync.marketo.limits import limits_of

    emulator = connect({"calls_per_20_seconds": 30, "concurrent_calls": "3", "daily_calls": 900})
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(client_module, "Transport", lambda credentials, **options: made.append(options) or _Nothing())
    for _ in range(2):
        MarketoHook().client(Settings(retry_budget_seconds=7))
    shared = limits_of(emulator.url, 30, 3)
    assert [options["limits"] for options in made] == [shared, shared]
    assert {(options["daily_calls"], options["retry_budget_seconds"]) for options in made} == {(900, 7)}


class _Nothing:
    base_url = ""


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        ({"calls_per_20_seconds": 101}, "extra calls_per_20_seconds is 101; allowed: 1 to 100"),
        ({"concurrent_calls": 11}, "extra concurrent_calls is 11; allowed: 1 to 10"),
    ],
)
def test_limits_beyond_marketos_own_are_refused(connect: Connect, extra: dict[str, Any], named: str) -> None:
    from opportunity_sync.marketo.hook import MarketoHook

    connect(extra)
    with pytest.raises(ConfigurationError, match=named):
        MarketoHook().client(Settings())


def test_marketo_is_configured_when_its_connection_exists(connect: Connect) -> None:
    from opportunity_sync.marketo.hook import MarketoHook

    assert not MarketoHook().is_configured()
    connect()
    assert MarketoHook().is_configured()
