"""The identity endpoint: one custom service, one token at a time."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from emulator.clock import Clock

from .errors import RequestError

CLIENT_ID = "bbbbbbbb-cccc-4ddd-8eee-ffffffffffff"
CLIENT_SECRET = "stand-in-marketo-secret"  # noqa: S105  (a published value that opens nothing but this stand-in)
API_USER = "apis@example.com"


class IdentityError(Exception):
    """A refusal of the identity endpoint.

    Args:
        status: HTTP status.
        error: OAuth error.
        text: What it says.
    """

    def __init__(self, status: int, error: str, text: str) -> None:
        super().__init__(text)
        self.status, self.error = status, error

    def body(self) -> dict[str, str]:
        """The JSON body."""
        return {"error": self.error, "error_description": str(self)}


@dataclass
class Identity:
    """Tokens of the custom service.

    Attributes:
        clock: The server's clock; tokens expire by it.
        lifetime: Seconds a token lives.
        issued: How many different tokens were given out.
    """

    clock: Clock
    lifetime: int = 3600
    issued: int = 0
    _token: str = field(default="", repr=False)
    _expires_at: float = 0.0
    _expired: set[str] = field(default_factory=set, repr=False)

    def grant(self, parameters: Mapping[str, str]) -> dict[str, object]:
        """Answer a token request: the same token as before while that lives.

        Raises:
            IdentityError: Unknown client, wrong secret (401) or another grant (400).
        """
        if parameters.get("grant_type") != "client_credentials":
            raise IdentityError(400, "unsupported_grant_type", "Unsupported grant type")
        if parameters.get("client_id") != CLIENT_ID:
            raise IdentityError(401, "unauthorized", "No client with requested id")
        if not secrets.compare_digest(parameters.get("client_secret", "").encode(), CLIENT_SECRET.encode()):
            raise IdentityError(401, "invalid_client", "Bad client credentials")
        now = self.clock.now().timestamp()
        if not self._token or now >= self._expires_at:
            if self._token:
                self._expired.add(self._token)
            self._token, self._expires_at = f"{uuid.uuid4()}:int", now + self.lifetime
            self.issued += 1
        remaining = int(self._expires_at - now)
        return {"access_token": self._token, "token_type": "bearer", "expires_in": remaining, "scope": API_USER}

    def check(self, authorization: str) -> None:
        """Refuse a header without the present token.

        Raises:
            RequestError: 602 for a token that has expired, 601 for anything else.
        """
        scheme, _, token = authorization.partition(" ")
        if token in self._expired and scheme.lower() == "bearer":
            raise RequestError(602)
        if scheme.lower() != "bearer" or not self._token or token != self._token:
            raise RequestError(601)
        if self.clock.now().timestamp() >= self._expires_at:
            raise RequestError(602)

    def revoke(self) -> None:
        """Make the present token invalid (601); the next request for one brings a new one."""
        self._token = ""

    def expire(self) -> None:
        """End the present token's life (602)."""
        self._expires_at = 0.0
