"""An Entra-like authority that MSAL accepts with `instance_discovery=False`: tokens for the organisation."""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

import jwt

from .certificates import Certificates
from .clock import Clock

TENANT = "11111111-2222-4333-8444-555555555555"
CLIENT_ID = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
CLIENT_SECRET = "stand-in-secret"  # noqa: S105  (a published value that opens nothing but this stand-in)
EXPIRED_SECRET = "stand-in-expired-secret"  # noqa: S105
USERNAME = "sync@example.com"
PASSWORD = "stand-in-password"  # noqa: S105
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class TokenError(Exception):
    """A refusal of the authority, with the error body Entra sends."""

    def __init__(self, status: int, error: str, number: int, text: str) -> None:
        super().__init__(text)
        self.status, self.error, self.number, self.text = status, error, number, text

    def body(self, clock: Clock) -> dict[str, object]:
        """The JSON body."""
        stamp, trace, correlation = clock.now().strftime("%Y-%m-%d %H:%M:%SZ"), str(uuid.uuid4()), str(uuid.uuid4())
        return {
            "error": self.error,
            "error_description": f"AADSTS{self.number}: {self.text} Trace ID: {trace} "
            f"Correlation ID: {correlation} Timestamp: {stamp}",
            "error_codes": [self.number],
            "timestamp": stamp,
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": f"https://login.microsoftonline.com/error?code={self.number}",
        }


@dataclass
class Authority:
    """One tenant with one registered application and one user.

    Attributes:
        certificates: Whose application certificate the certificate grant accepts.
        clock: The server's clock; tokens expire by it.
        lifetime: Seconds a token lives.
    """

    certificates: Certificates
    clock: Clock
    lifetime: int = 3600
    _key: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    _revoked: int = 0

    def known_tenant(self, tenant: str) -> None:
        """Refuse another tenant, as Entra does: 400 AADSTS90002."""
        if tenant.lower() != TENANT:
            raise TokenError(
                400,
                "invalid_tenant",
                90002,
                f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing "
                "into the correct cloud. Check with your subscription administrator, this may happen if there are "
                "no active subscriptions for the tenant.",
            )

    def discovery(self, base: str, tenant: str) -> dict[str, object]:
        """The OpenID configuration MSAL reads first. `base` is `https://host:port`."""
        self.known_tenant(tenant)
        root = f"{base}/{tenant}"
        return {
            "token_endpoint": f"{root}/oauth2/v2.0/token",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "authorization_endpoint": f"{root}/oauth2/v2.0/authorize",
            "device_authorization_endpoint": f"{root}/oauth2/v2.0/devicecode",
            "jwks_uri": f"{root}/discovery/v2.0/keys",
            "issuer": f"{root}/v2.0",
            "response_types_supported": ["code", "id_token", "token"],
            "scopes_supported": ["openid", "profile", "email", "offline_access"],
            "tenant_region_scope": "EU",
        }

    def grant(self, base: str, tenant: str, form: Mapping[str, str]) -> dict[str, object]:
        """Answer a token request.

        Raises:
            TokenError: With Entra's status, error and AADSTS number.
        """
        self.known_tenant(tenant)
        client = form.get("client_id", "")
        if client != CLIENT_ID:
            raise TokenError(
                400,
                "unauthorized_client",
                700016,
                f"Application with identifier '{client}' was not found in the directory '{tenant}'. This can happen "
                "if the application has not been installed by the administrator of the tenant or consented to by any "
                "user in the tenant. You may have sent your authentication request to the wrong tenant.",
            )
        scope = form.get("scope", "")
        if form.get("grant_type") == "client_credentials":
            self._check_credential(f"{base}/{tenant}", form, required=True)
            if f"{base}/.default" not in scope.split():
                raise TokenError(
                    400,
                    "invalid_scope",
                    1002012,
                    f"The provided value for scope {scope} is not valid. Client credential flows must have a scope "
                    "value with /.default suffixed to the resource identifier (application ID URI).",
                )
        elif form.get("grant_type") == "password":
            self._check_credential(f"{base}/{tenant}", form, required=False)
            if form.get("username", "").lower() != USERNAME or form.get("password") != PASSWORD:
                raise TokenError(
                    400, "invalid_grant", 50126, "Error validating credentials due to invalid username or password."
                )
            if not any(item.startswith(f"{base}/") for item in scope.split()):
                raise TokenError(
                    400,
                    "invalid_resource",
                    500011,
                    f"The resource principal named {scope} was not found in the tenant.",
                )
        else:
            raise TokenError(
                400,
                "unsupported_grant_type",
                70003,
                f"The app requested an unsupported grant type '{form.get('grant_type')}'.",
            )
        return {
            "token_type": "Bearer",
            "expires_in": self.lifetime,
            "ext_expires_in": self.lifetime,
            "access_token": self._issue(base, tenant),
        } | ({"scope": f"{base}/user_impersonation"} if form.get("grant_type") == "password" else {})

    def _check_credential(self, authority: str, form: Mapping[str, str], *, required: bool) -> None:
        secret, assertion = form.get("client_secret"), form.get("client_assertion")
        if assertion is not None and form.get("client_assertion_type") == _ASSERTION:
            self._check_assertion(authority, assertion)
        elif secret == EXPIRED_SECRET:
            raise TokenError(
                401,
                "invalid_client",
                7000222,
                f"The provided client secret keys for app '{CLIENT_ID}' are expired. Visit the Azure portal to create "
                "new keys for your app: https://aka.ms/NewClientSecret, or consider using certificate credentials "
                "for added security: https://aka.ms/certCreds.",
            )
        elif secret is not None and secret != CLIENT_SECRET:
            raise TokenError(
                401,
                "invalid_client",
                7000215,
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret "
                f"value, not the client secret ID, for a secret added to app '{CLIENT_ID}'.",
            )
        elif secret is None and required:
            raise TokenError(
                401,
                "invalid_client",
                7000216,
                "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type.",
            )

    def _check_assertion(self, authority: str, assertion: str) -> None:
        """The signed statement of the certificate grant: right key, right audience, still valid."""
        key = self.certificates.application_certificate().public_key()
        try:
            jwt.decode(
                assertion,
                key,  # type: ignore[arg-type]
                algorithms=["RS256", "PS256"],
                audience=[f"{authority}/oauth2/v2.0/token", f"{authority}/v2.0"],
                issuer=CLIENT_ID,
                subject=CLIENT_ID,
                options={"require": ["exp", "aud", "iss", "sub"]},
                leeway=300,
            )
        except jwt.InvalidAudienceError as error:
            raise TokenError(
                401, "invalid_client", 700023, "Client assertion audience claim does not match Realm issuer."
            ) from error
        except jwt.ExpiredSignatureError as error:
            raise TokenError(
                401, "invalid_client", 700024, "Client assertion is not within its valid time range."
            ) from error
        except jwt.InvalidTokenError as error:
            raise TokenError(
                401,
                "invalid_client",
                700027,
                "The certificate with identifier used to sign the client assertion is not registered on application.",
            ) from error

    def _issue(self, base: str, tenant: str) -> str:
        now = self.clock.now().timestamp()
        claims = {
            "aud": base,
            "iss": f"https://sts.windows.net/{tenant}/",
            "iat": int(now),
            "nbf": int(now),
            "exp": now + self.lifetime,
            "appid": CLIENT_ID,
            "tid": tenant,
            "generation": self._revoked,
            "jti": str(uuid.uuid4()),
        }
        return jwt.encode(claims, self._key, algorithm="HS256")

    def revoke_tokens(self) -> None:
        """Make every token given out so far invalid."""
        self._revoked += 1

    def accepts(self, base: str, authorization: str) -> bool:
        """Whether an Authorization header carries a token that is ours, unexpired and not revoked."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer":
            return False
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=["HS256"],
                audience=base,
                options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError:
            return False
        now = self.clock.now().timestamp() if self.clock else time.time()
        return bool(claims["generation"] == self._revoked and now < claims["exp"])
