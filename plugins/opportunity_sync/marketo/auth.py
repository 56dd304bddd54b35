"""Access tokens of a Marketo instance.

Marketo gives everyone who asks with the same client id the same token until it expires, so a token is asked for when
the last one has expired, and once more when a call is refused with 601 or 602. The secret travels in the body of a
POST: no URL, and so no log of one, ever holds it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec
import requests
from requests.auth import AuthBase

from opportunity_sync.errors import ConfigurationError
from opportunity_sync.marketo.errors import MarketoAuthenticationError, MarketoServiceError, connection_error

TOKEN_PATH = "/identity/oauth/token"  # noqa: S105  (an address)


@dataclass(frozen=True)
class Credentials:
    """How to get a token for one instance.

    Raises:
        ConfigurationError: a field is empty, or the URL is not that of an instance.
    """

    base_url: str
    """For example `https://123-ABC-456.mktorest.com`."""
    client_id: str
    client_secret: str = field(repr=False)
    ca_bundle: str | None = None
    """PEM file of the authorities to trust; None: those of the environment or of `certifi`."""

    def __post_init__(self) -> None:
        missing = [name for name in ("base_url", "client_id", "client_secret") if not getattr(self, name)]
        if missing:
            raise misconfigured(f"Credentials for Marketo need {', '.join(missing)}")
        if instance_url(self.base_url) != self.base_url:
            raise misconfigured(f"{self.base_url} is not the URL of an instance alone")


def instance_url(host: str) -> str:
    """The URL of an instance, from what Marketo shows for its endpoint or identity (Admin, Web Services).

    Raises:
        ConfigurationError: it is something else.
    """
    text = host.strip()
    parts = urlsplit(text if "://" in text else f"https://{text}")
    is_alone = parts.path.rstrip("/") in ("", "/rest", "/identity") and not parts.query
    if parts.scheme != "https" or not parts.hostname or not is_alone:
        raise misconfigured(
            f"The host is {parts.scheme}://{parts.hostname or ''}{parts.path}, which is no instance's URL"
        )
    return f"https://{parts.hostname}:{parts.port}" if parts.port else f"https://{parts.hostname}"


def misconfigured(what: str) -> ConfigurationError:
    """The error for a connection that cannot be used."""
    return ConfigurationError(
        what,
        state="Nothing was loaded into Marketo",
        action="Correct the connection marketo_default; its host is the endpoint that Marketo shows under Admin, Web "
        "Services, for example https://123-ABC-456.mktorest.com",
    )


class Bearer(AuthBase):
    """Puts one token on one request; being there, it also keeps `requests` from looking for a password in ~/.netrc."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Authorise a request."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class MarketoAuth:
    """The present token of an instance, shared by all threads.

    Args:
        credentials: how to get one.
        timeout_seconds: longest silence of the identity endpoint, in seconds.
        clock: seconds, growing.
    """

    def __init__(
        self, credentials: Credentials, *, timeout_seconds: float = 30, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._credentials, self._timeout, self._clock = credentials, timeout_seconds, clock
        self._lock = threading.Lock()
        self._token: str | None = None
        self._expires_at = 0.0

    def token(self) -> str:
        """A token that has not expired.

        Raises:
            MarketoError: see `request_token`.
        """
        with self._lock:
            if self._token is None or self._clock() >= self._expires_at:
                asked_at = self._clock()
                self._token, lifetime = request_token(self._credentials, timeout_seconds=self._timeout)
                self._expires_at = asked_at + lifetime
            return self._token

    def discard(self, token: str) -> None:
        """Forget a token that was refused, unless another thread has replaced it already."""
        with self._lock:
            if self._token == token:
                self._token = None


class _Token(msgspec.Struct):
    access_token: str
    expires_in: float


def request_token(credentials: Credentials, *, timeout_seconds: float) -> tuple[str, float]:
    """Ask for the token.

    Returns:
        The access token and the seconds it has left.

    Raises:
        MarketoAuthenticationError: client id or secret is refused.
        MarketoServiceError: transient: the identity endpoint is failing or unreachable.
    """
    form = {
        "grant_type": "client_credentials",
        "client_id": credentials.client_id,
        "client_secret": credentials.client_secret,
    }
    try:
        with requests.Session() as session:
            response = session.post(
                credentials.base_url + TOKEN_PATH,
                data=form,
                auth=_without_netrc,
                timeout=timeout_seconds,
                verify=credentials.ca_bundle,
                allow_redirects=False,
            )
    except requests.RequestException as error:
        raise connection_error(error, "Marketo's identity endpoint") from None
    answer = f"Marketo's identity endpoint answered {response.status_code}"
    if response.status_code in (400, 401, 403):
        raise MarketoAuthenticationError(
            f"{answer}: client id or client secret is refused",
            action="Set login and password of the connection to the client id and secret of the API service in "
            "Marketo (Admin, LaunchPoint), and its host to the instance they belong to",
        )
    try:
        if response.status_code == 200:
            token = msgspec.json.decode(response.content, type=_Token)
            return token.access_token, token.expires_in
    except (msgspec.MsgspecError, UnicodeDecodeError):
        answer += " without a token"
    raise MarketoServiceError(answer, action="Check the host of the connection and the service's health; run again")


def _without_netrc(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
