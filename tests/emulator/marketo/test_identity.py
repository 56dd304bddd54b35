from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_the_token_stays_the_same_until_it_expires(api: Any) -> None:
    first = api.token().json()
    api.emulator.advance_clock(600)
    second = api.token().json()
    assert (first["token_type"], first["scope"]) == ("bearer", "apis@example.com")
    assert second["access_token"] == first["access_token"]
    assert second["expires_in"] <= first["expires_in"] - 600
    api.emulator.advance_clock(3600)
    assert api.token().json()["access_token"] != first["access_token"]
    assert api.emulator.server.identity.issued == 2


def test_the_secret_may_travel_in_the_body_of_a_post(api: Any) -> None:
    form = {
        "grant_type": "client_credentials",
        "client_id": api.emulator.client_id,
        "client_secret": api.emulator.client_secret,
    }
    response = api.session.post(f"{api.emulator.url}/identity/oauth/token", data=form, timeout=20)
    assert response.json()["access_token"] == api.token().json()["access_token"]


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"client_id": "other"}, 401, "unauthorized"),
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_secret": ""}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
def test_a_wrong_client_is_refused_by_status(api: Any, changes: dict[str, str], status: int, error: str) -> None:
    response = api.token(**changes)
    assert (response.status_code, response.json()["error"]) == (status, error)
    assert "access_token" not in response.json()


def test_expired_and_invalid_tokens_have_their_codes(api: Any) -> None:
    usage = "stats/usage.json"
    assert api.get(usage)["success"]
    api.emulator.expire_tokens()
    assert api.code(api.get(usage)) == 602
    old = api.session.headers["Authorization"]
    api.login()
    assert api.get(usage)["success"]
    api.session.headers["Authorization"] = old
    assert api.code(api.get(usage)) == 602
    api.login()
    api.emulator.revoke_tokens()
    assert api.code(api.get(usage)) == 601
    api.login()
    assert api.get(usage)["success"]


@pytest.mark.parametrize("header", ["", "Bearer ", "Bearer nonsense", "Basic {token}"])
def test_without_a_good_bearer_header_nothing_is_answered(api: Any, header: str) -> None:
    token = api.token().json()["access_token"]
    api.session.headers["Authorization"] = header.format(token=token)
    assert api.code(api.get("opportunities/describe.json")) == 601


def test_a_token_in_the_address_is_no_longer_accepted(api: Any) -> None:
    token = api.token().json()["access_token"]
    del api.session.headers["Authorization"]
    assert api.code(api.get("opportunities/describe.json", access_token=token)) == 601
