"""An Airflow connection as a Marketo client.

Fields of the connection (any type; `generic` will do):

| field | meaning |
|---|---|
| host | the instance, `https://123-ABC-456.mktorest.com`, as Marketo shows it under Admin, Web Services |
| port | only when it is not 443 |
| login | client id of the API service (Admin, LaunchPoint) |
| password | its client secret |
| extra `calls_per_20_seconds` | calls within any 20 seconds; default 50, at most 100 |
| extra `concurrent_calls` | calls at once; default 5, at most 10 |
| extra `daily_calls` | stop when all integrations together have made so many calls today; default 45000 |
| extra `ca_bundle` | path of a PEM file with the authorities to trust; default: those of the environment, or `certifi`'s |

The API user behind the client id needs a role with the permissions Read-Write Named Opportunity, Read-Write Company and
Read-Only Lead (Read-Write Lead where leads are created).
"""  # noqa: E501  (a table row cannot be wrapped)

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from opportunity_sync.errors import ConfigurationError, OpportunitySyncError

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from opportunity_sync.marketo.auth import Credentials
    from opportunity_sync.marketo.client import MarketoClient
    from opportunity_sync.settings import Settings

NUMBERS = ("calls_per_20_seconds", "concurrent_calls", "daily_calls")
EXTRA = (*NUMBERS, "ca_bundle")
"""Allowed keys of the connection's extra."""


class MarketoHook(BaseHook):
    """Makes a client of an Airflow connection."""

    conn_name_attr = "marketo_conn_id"
    default_conn_name = "marketo_default"
    conn_type = "marketo"
    hook_name = "Marketo Engage"

    def __init__(self, marketo_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.marketo_conn_id = marketo_conn_id

    def is_configured(self) -> bool:
        """Whether there is such a connection; without one, nothing is loaded into Marketo."""
        try:
            self.get_connection(self.marketo_conn_id)
        except AirflowNotFoundException:
            return False
        return True

    def client(self, settings: Settings) -> MarketoClient:
        """A client for the connection's instance; use it as a context manager. Nothing is sent yet.

        Raises:
            ConfigurationError: a field of the connection is missing or wrong.
        """
        from opportunity_sync.marketo.client import MarketoClient
        from opportunity_sync.marketo.limits import CALLS_PER_20_SECONDS, CONCURRENT_CALLS, DAILY_CALLS, limits_of

        connection = self.get_connection(self.marketo_conn_id)
        credentials, extra = read_credentials(connection), _extra(connection)
        try:
            limits = limits_of(
                credentials.base_url,
                int(extra.get("calls_per_20_seconds", CALLS_PER_20_SECONDS)),
                int(extra.get("concurrent_calls", CONCURRENT_CALLS)),
            )
        except ValueError as error:
            raise _wrong(connection, f"extra {error}") from None
        return MarketoClient(
            credentials,
            limits=limits,
            daily_calls=int(extra.get("daily_calls", DAILY_CALLS)),
            retry_budget_seconds=settings.retry_budget_seconds,
        )

    def test_connection(self) -> tuple[bool, str]:
        """Sign in and ask how many calls were made today.

        Returns:
            Whether it worked, and a sentence on what the service said.
        """
        from opportunity_sync.settings import load_settings

        try:
            with self.client(load_settings()) as client:
                calls = client.usage_today()
        except OpportunitySyncError as error:
            return False, str(error)
        return True, f"Signed in to {client.base_url}, which has had {calls} calls today"


def read_credentials(connection: Connection) -> Credentials:
    """Credentials from the fields described at the top of this module.

    Raises:
        ConfigurationError: a field is missing, wrong or unknown; names the connection and the field, never a secret.
    """
    from opportunity_sync.marketo.auth import Credentials, instance_url

    extra = _extra(connection)
    missing = [name for name in ("host", "login", "password") if not getattr(connection, name)]
    if missing:
        raise _wrong(connection, f"{', '.join(missing)} missing")
    url = instance_url(str(connection.host))
    return Credentials(
        base_url=f"{url}:{connection.port}" if connection.port and url.count(":") == 1 else url,
        client_id=str(connection.login),
        client_secret=str(connection.password),
        ca_bundle=extra.get("ca_bundle"),
    )


def _extra(connection: Connection) -> Mapping[str, str]:
    try:
        extra: Any = json.loads(connection.extra) if connection.extra else {}
    except ValueError:
        raise _wrong(connection, "extra is not JSON") from None
    is_object = isinstance(extra, dict)
    if not is_object:
        raise _wrong(connection, "extra is not a JSON object")
    for key, value in extra.items():
        if key not in EXTRA:
            raise _wrong(connection, f"extra has the unknown key {key!r}; allowed: {', '.join(EXTRA)}")
        if key in NUMBERS and not (str(value).isascii() and str(value).isdigit()):
            raise _wrong(connection, f"extra {key} is not a whole number")
    return {key: str(value) for key, value in extra.items() if value is not None}


def _wrong(connection: Connection, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"Connection {connection.conn_id}: {what}",
        state="Nothing was loaded into Marketo",
        action="Correct the Airflow connection; its fields are described in plugins/opportunity_sync/marketo/hook.py",
    )
