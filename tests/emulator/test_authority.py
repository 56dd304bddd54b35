from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import msal
import pytest
import requests
from cryptography.hazmat.primitives.serialization import load_pem_private_key

pytestmark = pytest.mark.slow


def _grant(client: Any, **form: str) -> tuple[int, dict[str, Any]]:
    url = f"{client.emulator.authority}/oauth2/v2.0/token"
    defaults = {"client_id": client.emulator.client_id, "scope": f"{client.emulator.url}/.default"}
    response = client.session.post(url, data={**defaults, **form}, timeout=20)
    return response.status_code, response.json()


def test_msal_gets_a_token_with_the_secret_and_the_api_accepts_it(reader: Any) -> None:
    assert reader.json("WhoAmI").keys() >= {"BusinessUnitId", "UserId", "OrganizationId"}


def test_msal_gets_a_token_with_the_registered_certificate(client: Any) -> None:
    key = Path(client.emulator.certificate).read_text()
    answer = client.token({"private_key": key, "thumbprint": client.emulator.thumbprint})
    assert answer["token_type"] == "Bearer", answer
    client.session.headers["Authorization"] = f"Bearer {answer['access_token']}"
    assert client.get("WhoAmI").status_code == 200


def test_an_assertion_signed_with_another_key_is_refused(reader: Any, tmp_path: Path) -> None:
    from emulator.certificates import prepare

    other = prepare(tmp_path / "other")
    answer = reader.token({"private_key": other.application.read_text(), "thumbprint": other.thumbprint})
    assert "AADSTS700027" in answer["error_description"]


def test_an_assertion_for_another_audience_is_refused(reader: Any) -> None:
    key = load_pem_private_key(Path(reader.emulator.certificate).read_bytes(), None)
    me = reader.emulator.client_id
    assertion = jwt.encode({"aud": "https://elsewhere/token", "iss": me, "sub": me, "exp": 2**31}, key, "RS256")  # type: ignore[arg-type]
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    status, body = _grant(
        reader, grant_type="client_credentials", client_assertion=assertion, client_assertion_type=kind
    )
    assert (status, body["error_codes"]) == (401, [700023])


def test_a_user_and_password_get_a_token(client: Any) -> None:
    # MSAL drops the port when it asks for the user realm, so the realm is answered here and the grant sent plainly.
    realm = client.session.get(f"{client.emulator.url}/common/userrealm/sync@example.com?api-version=1.0", timeout=20)
    assert realm.json()["account_type"] == "Managed"
    good = {"grant_type": "password", "username": client.emulator.username, "password": client.emulator.password}
    status, body = _grant(client, **good)
    assert status == 200
    client.session.headers["Authorization"] = f"Bearer {body['access_token']}"
    assert client.get("WhoAmI").status_code == 200
    status, body = _grant(client, **{**good, "password": "no"})
    assert (status, body["error"], body["error_codes"]) == (400, "invalid_grant", [50126])


def test_msal_gets_a_token_for_a_user_where_the_realm_question_reaches_the_stand_in(reader: Any) -> None:
    class WithPort(requests.Session):
        def get(self, url: Any, **options: Any) -> requests.Response:  # type: ignore[override]
            return super().get(str(url).replace("https://localhost/", f"{reader.emulator.url}/"), **options)

    with WithPort() as session:
        session.trust_env, session.verify = False, reader.emulator.ca_bundle
        app = msal.ConfidentialClientApplication(
            reader.emulator.client_id,
            authority=reader.emulator.authority,
            client_credential=reader.emulator.client_secret,
            instance_discovery=False,
            http_client=session,
        )
        scopes = [f"{reader.emulator.url}/user_impersonation"]
        answer = app.acquire_token_by_username_password(reader.emulator.username, reader.emulator.password, scopes)
    assert "access_token" in answer, answer


@pytest.mark.parametrize(
    ("form", "status", "error", "number"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client", 7000215),
        ({"client_secret": "stand-in-expired-secret"}, 401, "invalid_client", 7000222),
        ({}, 401, "invalid_client", 7000216),
        ({"client_id": "nobody", "client_secret": "x"}, 400, "unauthorized_client", 700016),
        ({"client_secret": "stand-in-secret", "scope": "https://elsewhere/.default"}, 400, "invalid_scope", 1002012),
        ({"client_secret": "stand-in-secret", "grant_type": "device_code"}, 400, "unsupported_grant_type", 70003),
    ],
)
def test_a_refusal_has_entras_status_error_and_number(
    reader: Any, form: dict[str, str], status: int, error: str, number: int
) -> None:
    found, body = _grant(reader, **{"grant_type": "client_credentials", **form})
    assert (found, body["error"], body["error_codes"]) == (status, error, [number])
    assert body["error_description"].startswith(f"AADSTS{number}: ")


def test_an_unknown_tenant_is_refused_when_msal_looks_for_its_configuration(reader: Any) -> None:
    other = f"{reader.emulator.url}/99999999-0000-4000-8000-000000000000"
    with pytest.raises(ValueError, match="Unable to get authority configuration"):
        reader.token(authority=other)
    response = reader.session.get(f"{other}/v2.0/.well-known/openid-configuration", timeout=20)
    assert (response.status_code, response.json()["error_codes"]) == (400, [90002])
    response = reader.session.post(f"{other}/oauth2/v2.0/token", data={}, timeout=20)
    assert (response.status_code, response.json()["error_codes"]) == (400, [90002])


@pytest.mark.parametrize("header", [None, "Bearer rubbish", "Basic x"])
def test_no_valid_bearer_is_answered_with_a_challenge(client: Any, header: str | None) -> None:
    del client.session.headers["Authorization"]
    response = client.get("WhoAmI", headers={"Authorization": header} if header else {})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith(f"Bearer authorization_uri={client.emulator.authority}")
    assert "message" in response.json()["error"]


def test_a_token_of_another_stand_in_is_not_accepted(start: Callable[..., Any]) -> None:
    first, second = start(), start()
    first.session.headers["Authorization"] = second.session.headers["Authorization"]
    assert first.get("WhoAmI").status_code == 401


def test_a_token_expires_by_the_servers_clock(start: Callable[..., Any]) -> None:
    client = start(token_lifetime=600)
    client.emulator.advance_clock(599)
    assert client.get("WhoAmI").status_code == 200
    client.emulator.advance_clock(2)
    assert client.get("WhoAmI").status_code == 401
    client.login()
    assert client.get("WhoAmI").status_code == 200


def test_a_revoked_token_is_refused_and_a_new_one_works(client: Any) -> None:
    client.emulator.revoke_tokens()
    assert client.get("WhoAmI").status_code == 401
    client.login()
    assert client.get("WhoAmI").status_code == 200


def test_a_caller_who_is_no_member_is_told_so(client: Any) -> None:
    client.emulator.set_privileges(member=False)
    assert client.refused("opportunities") == (
        403,
        "0x80072560",
        "The user is not a member of the organization.",
    )


def test_a_missing_read_privilege_is_named(client: Any) -> None:
    client.emulator.set_privileges(read={"opportunity": "None"})
    status, code, message = client.refused("opportunities")
    assert (status, code) == (403, "0x80040220")
    assert "SecLib::CheckPrivilege failed." in message
    assert "PrivilegeName: prvReadOpportunity," in message
    assert client.get("accounts").status_code == 200


def test_without_organisation_level_read_rows_can_be_read_but_not_tracked(client: Any) -> None:
    client.emulator.set_privileges(read={"opportunity": "Basic"})
    assert client.get("opportunities").status_code == 200
    status, code, message = client.refused("opportunities", prefer="odata.track-changes")
    assert (status, code) == (403, "0x80040220")
    assert "Required Depth: Global" in message
