"""An Airflow connection as a Dataverse client.

Fields of the connection (any type; `generic` will do):

| field | meaning |
|---|---|
| host | URL of the organisation, `https://contoso.crm.dynamics.com`; `https://` may be left out |
| port | only when it is not 443 |
| login | application (client) id; empty for the system-assigned managed identity |
| password | client secret |
| extra `kind` | `secret`, `certificate`, `managed_identity` or `password`; without it: `certificate` when a certificate is given, else `secret` |
| extra `tenant` | tenant id or domain |
| extra `authority` | sign-in host of a national cloud, such as `https://login.microsoftonline.us`; default: the public cloud |
| extra `certificate` | path of a PEM file with the private key and, unless its thumbprint is given, the certificate |
| extra `certificate_thumbprint` | SHA-1 of the certificate in hex |
| extra `certificate_password` | of the private key |
| extra `username`, `user_password` | kind `password`: a user without multi-factor authentication |
| extra `ca_bundle` | path of a PEM file with the authorities to trust; default: those of the environment, or `certifi`'s |

Dataverse needs the application (or user) registered as a user of the organisation, with a security role that may read
the five tables at organisation level.
"""  # noqa: E501  (a table row cannot be wrapped)

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast, get_args
from urllib.parse import urlsplit

from airflow.sdk import BaseHook

from opportunity_sync.errors import ConfigurationError, OpportunitySyncError

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from opportunity_sync.dataverse.auth import Credentials
    from opportunity_sync.dataverse.client import DataverseClient
    from opportunity_sync.settings import Settings

EXTRA = (
    "kind",
    "tenant",
    "authority",
    "certificate",
    "certificate_thumbprint",
    "certificate_password",
    "username",
    "user_password",
    "ca_bundle",
)
"""Allowed keys of the connection's extra."""


class DataverseHook(BaseHook):
    """Makes a client of an Airflow connection."""

    conn_name_attr = "dataverse_conn_id"
    default_conn_name = "dataverse_default"
    conn_type = "dataverse"
    hook_name = "Microsoft Dataverse"

    def __init__(self, dataverse_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.dataverse_conn_id = dataverse_conn_id

    def client(self, settings: Settings) -> DataverseClient:
        """A client for the connection's organisation; use it as a context manager. Nothing is sent yet.

        Raises:
            ConfigurationError: a field of the connection is missing or wrong.
        """
        from opportunity_sync.dataverse.auth import DataverseAuth
        from opportunity_sync.dataverse.client import DataverseClient

        credentials = read_credentials(self.get_connection(self.dataverse_conn_id))
        return DataverseClient(
            credentials.organization_url,
            DataverseAuth(credentials),
            ca_bundle=credentials.ca_bundle,
            timeout_seconds=settings.request_timeout_seconds,
            retry_budget_seconds=settings.retry_budget_seconds,
        )

    def test_connection(self) -> tuple[bool, str]:
        """Sign in and ask who we are.

        Returns:
            Whether it worked, and a sentence on what the service said.
        """
        from opportunity_sync.settings import load_settings

        try:
            with self.client(load_settings()) as client:
                found = client.who_am_i()
        except OpportunitySyncError as error:
            return False, str(error)
        return True, f"Signed in to organisation {found.organization_id} as user {found.user_id}"


def read_credentials(connection: Connection) -> Credentials:
    """Credentials from the fields described at the top of this module.

    Raises:
        ConfigurationError: a field is missing, wrong or unknown; names the connection and the field, never a secret.
    """
    from opportunity_sync.dataverse.auth import PUBLIC_CLOUD, Credentials, Kind

    extra = _extra(connection)
    kind = extra.get("kind") or ("certificate" if extra.get("certificate") else "secret")
    if kind not in get_args(Kind):
        raise _wrong(connection, f"extra kind is {kind!r}; allowed: {', '.join(get_args(Kind))}")
    return Credentials(
        kind=cast(Kind, kind),
        organization_url=_organization_url(connection),
        tenant=extra.get("tenant"),
        authority=extra.get("authority") or PUBLIC_CLOUD,
        client_id=connection.login or None,
        secret=connection.password or None,
        certificate=extra.get("certificate"),
        thumbprint=extra.get("certificate_thumbprint"),
        passphrase=extra.get("certificate_password"),
        username=extra.get("username"),
        password=extra.get("user_password"),
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
        if value is not None and not isinstance(value, str):
            raise _wrong(connection, f"extra {key} is not text")
    return {key: value for key, value in extra.items() if value}


def _organization_url(connection: Connection) -> str:
    host = (connection.host or "").strip().rstrip("/")
    if not host:
        raise _wrong(connection, "host is empty")
    url = urlsplit(host if "://" in host else f"https://{host}")
    if url.scheme != "https" or not url.hostname or url.path or url.query:
        raise _wrong(connection, f"host is {host!r}, which is not the https URL of an organisation without a path")
    return f"https://{url.netloc}:{connection.port}" if connection.port and not url.port else f"https://{url.netloc}"


def _wrong(connection: Connection, what: str) -> ConfigurationError:
    return ConfigurationError(
        f"Connection {connection.conn_id}: {what}",
        state="Nothing was read",
        action="Correct the Airflow connection; its fields are described in plugins/opportunity_sync/dataverse/hook.py",
    )
