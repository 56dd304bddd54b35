from __future__ import annotations

import itertools
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from opportunity_sync.errors import ConfigurationError
from opportunity_sync.marketo.auth import Credentials, MarketoAuth, instance_url
from opportunity_sync.marketo.errors import MarketoAuthenticationError, MarketoServiceError
from tests.marketo.conftest import Open
from tests.scripted_marketo import SECRET, TOKEN_PATH, Reply, Request, ScriptedMarketo, in_turn, refusal, token, used


def new_token_each_time(marketo: ScriptedMarketo, *, expires_in: float = 3600) -> None:
    numbers = itertools.count(1)
    marketo.identity = lambda request: token(next(numbers), expires_in)


def test_the_secret_travels_in_a_body_and_the_token_in_a_header_only(
    marketo: ScriptedMarketo, open_client: Open, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    marketo.usage = in_turn(used(5))
    open_client().usage_today()
    (asked,) = marketo.token_requests
    assert (asked.method, asked.path) == ("POST", TOKEN_PATH)
    assert parse_qs(asked.body.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["the-client-id"],
        "client_secret": [SECRET],
    }
    (call,) = marketo.calls
    assert call.headers["Authorization"] == "Bearer token-1"
    assert "token" not in call.path
    assert [text for text in caplog.messages if SECRET in text or "token-1" in text] == []
    assert any(TOKEN_PATH in text for text in caplog.messages), "the log of the transport was not looked at"


def test_a_password_in_netrc_is_left_alone(
    marketo: ScriptedMarketo, open_client: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine localhost login somebody password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    open_client().usage_today()
    assert [request.headers["Authorization"] for request in marketo.requests] == [None, "Bearer token-1"]


def test_one_token_serves_until_it_expires(marketo: ScriptedMarketo) -> None:
    now = 100.0
    new_token_each_time(marketo, expires_in=50)
    auth = MarketoAuth(marketo.credentials, clock=lambda: now)
    assert [auth.token(), auth.token()] == ["token-1"] * 2
    now = 149.9
    assert auth.token() == "token-1"
    now = 150.0
    assert auth.token() == "token-2"


def test_threads_that_need_a_token_at_once_ask_for_one(marketo: ScriptedMarketo) -> None:
    marketo.identity = lambda request: Reply(token(), seconds=0.1)
    auth = MarketoAuth(marketo.credentials)
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda _: auth.token(), range(8)))
    assert tokens == ["token-1"] * 8
    assert len(marketo.token_requests) == 1


def test_a_token_that_another_thread_has_replaced_is_not_thrown_away(marketo: ScriptedMarketo) -> None:
    new_token_each_time(marketo)
    auth = MarketoAuth(marketo.credentials)
    refused = auth.token()
    auth.discard(refused)
    auth.token()
    auth.discard(refused)
    assert auth.token() == "token-2"


@pytest.mark.parametrize("refused", [refusal(601), refusal(602), Reply("", status=401)])
def test_a_refused_token_is_renewed_once_and_the_call_repeated(
    marketo: ScriptedMarketo, open_client: Open, refused: object
) -> None:
    new_token_each_time(marketo)

    def answer(request: Request) -> object:
        return refused if request.headers["Authorization"] == "Bearer token-1" else used(7)

    marketo.usage = answer
    waits: list[float] = []
    assert open_client(sleep=waits.append).usage_today() == 7
    assert [call.headers["Authorization"] for call in marketo.calls] == ["Bearer token-1", "Bearer token-2"]
    assert waits == []


def test_a_fresh_token_that_is_refused_too_is_the_end(marketo: ScriptedMarketo, open_client: Open) -> None:
    marketo.usage = in_turn(refusal(601))
    with pytest.raises(MarketoAuthenticationError, match=r"601 to GET stats/usage.*also a fresh one") as caught:
        open_client().usage_today()
    assert not caught.value.transient
    assert len(marketo.calls) == 2


def test_a_token_handed_out_in_its_last_second_is_tried_again_later(
    marketo: ScriptedMarketo, open_client: Open
) -> None:
    marketo.usage = in_turn(refusal(602), refusal(602), used(1))
    waits: list[float] = []
    assert open_client(sleep=waits.append).usage_today() == 1
    assert len(waits) == 1


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_wrong_secret_stops_with_what_to_set_and_never_shows_it(
    marketo: ScriptedMarketo, open_client: Open, status: int
) -> None:
    marketo.identity = lambda request: Reply(
        {"error": "unauthorized", "error_description": f"No client with {SECRET}"}, status=status
    )
    with pytest.raises(MarketoAuthenticationError, match=f"answered {status}: client id or client secret") as caught:
        open_client().usage_today()
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(marketo.credentials)
    assert marketo.calls == []


@pytest.mark.parametrize(
    "failing",
    [
        Reply("<html>busy</html>"),
        Reply("busy", status=503),
        Reply({"expires_in": 5}),
        Reply("", status=302),
        Reply({"error": "x"}, status=404),
    ],
)
def test_a_failing_identity_endpoint_is_asked_again(
    marketo: ScriptedMarketo, open_client: Open, failing: Reply
) -> None:
    marketo.identity = in_turn(failing, failing, token())
    marketo.usage = in_turn(used(1))
    waits: list[float] = []
    assert open_client(sleep=waits.append).usage_today() == 1
    assert len(waits) == 2
    marketo.identity = in_turn(failing)
    with pytest.raises(MarketoServiceError, match="identity endpoint answered") as caught:
        open_client().usage_today()
    assert caught.value.transient


def test_an_untrusted_certificate_says_where_to_put_the_right_one(marketo: ScriptedMarketo) -> None:
    auth = MarketoAuth(Credentials(marketo.url, "id", SECRET))
    with pytest.raises(MarketoServiceError, match="of Marketo's identity endpoint is not trusted") as caught:
        auth.token()
    assert not caught.value.transient


@pytest.mark.parametrize(
    "shown",
    [
        "https://123-ABC-456.mktorest.com",
        "https://123-abc-456.mktorest.com/rest",
        "https://123-abc-456.mktorest.com/identity",
        " 123-abc-456.mktorest.com/ ",
    ],
)
def test_the_host_may_be_what_marketo_shows(shown: str) -> None:
    assert instance_url(shown) == "https://123-abc-456.mktorest.com"


@pytest.mark.parametrize(
    "wrong",
    ["http://123.mktorest.com", "https://123.mktorest.com/rest/v1", "https://", "https://u:p@x?client_secret=s"],
)
def test_another_host_is_refused_without_what_it_may_hold(wrong: str) -> None:
    with pytest.raises(ConfigurationError, match="no instance's URL") as caught:
        instance_url(wrong)
    assert "u:p" not in str(caught.value)
    assert "client_secret" not in str(caught.value)


@pytest.mark.parametrize("missing", ["base_url", "client_id", "client_secret"])
def test_credentials_with_an_empty_field_name_it(missing: str) -> None:
    fields = {"base_url": "https://x.mktorest.com", "client_id": "i", "client_secret": "s"}
    with pytest.raises(ConfigurationError, match=f"need {missing}"):
        Credentials(**(fields | {missing: ""}))
