"""Access tokens from Microsoft Entra ID, by MSAL, as `requests` authentication.

A token is renewed before it expires, and once per request when the service answers 401. Transient failures of the
token endpoint are raised as such; `DataverseClient` retries them with the policy of any request. Every token call uses
a new MSAL application, because MSAL replays a 429 or 5xx answer from memory on the same one.
"""

from __future__ import annotations

import hashlib
import logging
import re
import ssl
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from opportunity_sync.dataverse.errors import (
    AuthenticationError,
    ConnectionLostError,
    ServiceUnavailableError,
    ThrottledError,
    retry_after_seconds,
)
from opportunity_sync.errors import ConfigurationError

log = logging.getLogger("opportunity_sync.dataverse")

PUBLIC_CLOUD = "https://login.microsoftonline.com"
RENEWAL_MARGIN_SECONDS = 300.0

Kind = Literal["secret", "certificate", "managed_identity", "password"]

_NEEDED: Mapping[str, tuple[str, ...]] = {
    "secret": ("client_id", "secret"),
    "certificate": ("client_id", "certificate"),
    "managed_identity": (),
    "password": ("client_id", "username", "password"),
}

_MEANINGS: Mapping[int, tuple[str, str]] = {
    7000215: ("the client secret is wrong", "Set the connection's password to the secret's value, not to its id"),
    7000222: ("the client secret has expired", "Create a new secret for the application and set it as password"),
    7000218: ("the application needs a secret or certificate", "Set the connection's password or certificate"),
    700016: ("the application is unknown in this tenant", "Correct the application id (login) or the tenant"),
    700027: ("the certificate is not registered for the application", "Upload its public part to the application"),
    90002: ("the tenant is unknown", "Correct the tenant of the connection"),
    900023: ("the tenant is neither an id nor a domain name", "Correct the tenant of the connection"),
    500011: ("the organisation URL is unknown in this tenant", "Correct the host or the tenant of the connection"),
    65001: ("the application lacks consent", "Grant admin consent for the application"),
    50034: ("the user name is unknown in this tenant", "Correct the user name or the tenant"),
    50053: ("the user account is locked", "Wait or unlock the account"),
    50055: ("the user's password has expired", "Set a new password"),
    50057: ("the user account is disabled", "Enable the account"),
    50076: ("the user must pass multi-factor authentication", "Use an application user with a secret or certificate"),
    50079: ("the user must pass multi-factor authentication", "Use an application user with a secret or certificate"),
    50126: ("the user name or password is wrong", "Correct user name and password of the connection"),
}
"""AADSTS code to (what, action); https://learn.microsoft.com/entra/identity-platform/reference-error-codes"""


@dataclass(frozen=True)
class Credentials:
    """How to get a token for one organisation.

    Raises:
        ConfigurationError: a field that `kind` needs is empty.
    """

    kind: Kind
    organization_url: str
    """For example `https://contoso.crm.dynamics.com`; the token's scope is derived from it."""
    tenant: str | None = None
    """Tenant id or domain; not needed when `authority` ends in it, nor for a managed identity."""
    authority: str = PUBLIC_CLOUD
    """Sign-in host of the cloud, with or without the tenant as path."""
    client_id: str | None = None
    """Application id; for a managed identity: of the user-assigned one, None for the system-assigned one."""
    secret: str | None = field(default=None, repr=False)
    certificate: str | None = None
    """Path of a PEM file with the private key and, unless `thumbprint` is given, the certificate."""
    thumbprint: str | None = None
    """SHA-1 of the certificate in hex."""
    passphrase: str | None = field(default=None, repr=False)
    """Of the private key."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_bundle: str | None = None
    """PEM file of the authorities to trust; None: those of the environment or of `certifi`."""

    def __post_init__(self) -> None:
        missing = [name for name in _NEEDED[self.kind] if not getattr(self, name)]
        if self.kind != "managed_identity" and not (self.tenant or _path(self.authority)):
            missing.append("tenant")
        if missing:
            raise _misconfigured(f"Credentials of kind {self.kind} need {', '.join(missing)}")

    @property
    def scope(self) -> str:
        """The OAuth scope of the organisation."""
        return self.organization_url.rstrip("/") + "/.default"

    @property
    def authority_url(self) -> str:
        """Authority with tenant, as MSAL wants it."""
        base = self.authority.rstrip("/")
        return base if _path(base) else f"{base}/{self.tenant}"


class DataverseAuth(AuthBase):
    """Puts a valid bearer token on every request.

    Args:
        credentials: how to get one.
        timeout_seconds: longest silence of the token endpoint, in seconds.
        clock: seconds, growing.
    """

    def __init__(
        self, credentials: Credentials, *, timeout_seconds: float = 30, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._credentials, self._timeout, self._clock = credentials, timeout_seconds, clock
        self._lock = threading.Lock()
        self._token: str | None = None
        self._renew_at = 0.0

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Authorise a request.

        Raises:
            OpportunitySyncError: see `request_token`.
        """
        token = self._valid_token()
        request.headers["Authorization"] = f"Bearer {token}"

        def renew_upon_401(response: requests.Response, **kwargs: Any) -> requests.Response:
            return self._send_again(response, token, kwargs) if response.status_code == 401 else response

        request.register_hook("response", renew_upon_401)  # type: ignore[no-untyped-call]
        return request

    def _send_again(self, response: requests.Response, refused: str, kwargs: dict[str, Any]) -> requests.Response:
        log.info("Dataverse answered 401; getting a new token")
        response.content  # noqa: B018  read to the end, so that the connection can be used again
        response.close()
        with self._lock:
            if self._token == refused:
                self._token = None
        again = response.request.copy()
        again.headers["Authorization"] = f"Bearer {self._valid_token()}"
        adapter: requests.adapters.HTTPAdapter = response.connection
        answer = adapter.send(again, **kwargs)
        answer.history.append(response)
        return answer

    def _valid_token(self) -> str:
        with self._lock:
            if self._token is None or self._clock() >= self._renew_at:
                asked_at = self._clock()
                self._token, lifetime = request_token(self._credentials, timeout_seconds=self._timeout)
                self._renew_at = asked_at + max(lifetime - RENEWAL_MARGIN_SECONDS, lifetime / 2)
            return self._token


def request_token(credentials: Credentials, *, timeout_seconds: float) -> tuple[str, float]:
    """Get a new token.

    Returns:
        The access token and its lifetime in seconds.

    Raises:
        AuthenticationError: tenant, application, secret, certificate, user name or password is refused.
        ConfigurationError: the certificate file or the authority cannot be used.
        DataverseError: transient: the token endpoint is throttled, failing or unreachable.
    """
    with _TokenSession(credentials, timeout_seconds) as session:
        try:
            result = _ask_msal(credentials, session)
        except (OSError, ValueError) as error:  # MSAL's own and the certificate file's
            raise _misconfigured(f"No token could be asked for ({_reason(error)})") from None
    token, lifetime = result.get("access_token"), result.get("expires_in")
    if not token:
        raise _refusal(result)
    return str(token), float(lifetime or 0)


def _ask_msal(credentials: Credentials, session: requests.Session) -> dict[str, Any]:
    import msal

    if credentials.kind == "managed_identity":
        identity = (
            msal.UserAssignedManagedIdentity(client_id=credentials.client_id)
            if credentials.client_id
            else msal.SystemAssignedManagedIdentity()
        )
        client = msal.ManagedIdentityClient(identity, http_client=session)
        return dict(client.acquire_token_for_client(resource=credentials.organization_url.rstrip("/")))
    options = {
        "authority": credentials.authority_url,
        "http_client": session,
        "instance_discovery": False,  # MSAL would ask the public cloud about authorities it does not know
    }
    if credentials.kind == "password":
        user = {"username": credentials.username, "password": credentials.password, "scopes": [credentials.scope]}
        if credentials.secret:
            app = msal.ConfidentialClientApplication(
                credentials.client_id, client_credential=credentials.secret, **options
            )
        else:
            app = msal.PublicClientApplication(credentials.client_id, **options)
        with warnings.catch_warnings():  # Microsoft advises against this grant; docs of the connection do too
            warnings.simplefilter("ignore", DeprecationWarning)
            return dict(app.acquire_token_by_username_password(**user))
    secret = credentials.secret if credentials.kind == "secret" else _certificate(credentials)
    app = msal.ConfidentialClientApplication(credentials.client_id, client_credential=secret, **options)
    return dict(app.acquire_token_for_client(scopes=[credentials.scope]))


class _TokenSession(requests.Session):
    """MSAL's way to the network: our timeout and CA bundle, and an exception for answers MSAL would keep or hide."""

    def __init__(self, credentials: Credentials, timeout_seconds: float) -> None:
        super().__init__()
        self._ca_bundle, self._timeout = credentials.ca_bundle, timeout_seconds
        self._authority = credentials.authority_url

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        is_realm_question = "/common/userrealm/" in str(url)
        if is_realm_question:  # MSAL drops the authority's port here
            url = urlsplit(str(url))._replace(netloc=urlsplit(self._authority).netloc).geturl()
        kwargs["timeout"] = self._timeout
        if self._ca_bundle:  # per request: the environment's REQUESTS_CA_BUNDLE would win over Session.verify
            kwargs["verify"] = self._ca_bundle
        try:
            response = super().request(method, url, *args, **kwargs)
        except requests.RequestException as error:
            raise connection_error(error, "the token endpoint") from None
        answer = f"The token endpoint answered {response.status_code}"
        wait = retry_after_seconds(response.headers.get("Retry-After"))
        if response.status_code == 429:
            raise ThrottledError(answer, action="Run again later", retry_after=wait)
        if response.status_code >= 500:
            raise ServiceUnavailableError(answer, action="Run again later", retry_after=wait)
        if method == "GET" and response.status_code >= 400 and not is_realm_question:  # MSAL would quote the body
            raise _refusal({"error": f"HTTP status {response.status_code}", "error_description": response.text})
        return response


def connection_error(error: requests.RequestException, whom: str) -> ConnectionLostError:
    """The error for a request without a complete answer."""
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return ConnectionLostError(
            f"The certificate of {whom} is not trusted",
            action="Set the CA bundle of the connection, or REQUESTS_CA_BUNDLE, to the authority that signed it",
            transient=False,
        )
    return ConnectionLostError(
        f"No complete answer from {whom} ({type(error).__name__})",
        action="Check the network, the host name and the service's health; then run again",
    )


def _certificate(credentials: Credentials) -> dict[str, str]:
    pem = Path(str(credentials.certificate)).read_text(encoding="ascii")
    thumbprint = credentials.thumbprint
    if not thumbprint:
        found = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", pem, re.DOTALL)
        if not found:
            raise _misconfigured(f"{credentials.certificate} holds no certificate and no thumbprint is set")
        thumbprint = hashlib.sha1(ssl.PEM_cert_to_DER_cert(found[0]), usedforsecurity=False).hexdigest()
    key = re.search(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", pem, re.DOTALL)
    if not key:
        raise _misconfigured(f"{credentials.certificate} holds no private key")
    passphrase = {"passphrase": credentials.passphrase} if credentials.passphrase else {}
    return {"private_key": key[0], "thumbprint": thumbprint.replace(":", ""), **passphrase}


def _refusal(result: Mapping[str, Any]) -> AuthenticationError:
    """The error for MSAL's error dict; of its text only the AADSTS code is used."""
    found = re.search(r"AADSTS(\d+)", str(result.get("error_description", "")))
    if not found:
        error = re.sub(r"[^\w ]", "", str(result.get("error")))[:60]
        return AuthenticationError(
            f"The token request was refused ({error})",
            action="Check the authority, tenant and application id of the connection",
        )
    what, action = _MEANINGS.get(
        int(found[1]), ("the token request was refused", "Look the code up at https://login.microsoftonline.com/error")
    )
    return AuthenticationError(f"No access token: {what} (AADSTS{found[1]})", action=action)


def _misconfigured(what: str) -> ConfigurationError:
    return ConfigurationError(what, state="Nothing was read", action="Correct the Dataverse connection and run again")


def _reason(error: Exception) -> str:
    """What may be shown of an exception that could quote the secret's file."""
    return f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else type(error).__name__


def _path(url: str) -> str:
    return urlsplit(url).path.strip("/")
