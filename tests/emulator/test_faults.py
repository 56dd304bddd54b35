from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from emulator.faults import parse_rules, read_rules

pytestmark = pytest.mark.slow

TRACK = "odata.track-changes"


@pytest.fixture
def client(reader: Any) -> Iterator[Any]:
    """One stand-in for all these tests; no test leaves its rules behind."""
    yield reader
    reader.emulator.set_faults([])


def _statuses(client: Any, path: str, number: int) -> list[int]:
    return [client.get(path).status_code for _ in range(number)]


@pytest.mark.parametrize(
    ("kind", "code", "text"),
    [
        ("requests", "0x80072322", "Number of requests exceeded the limit of"),
        ("time", "0x80072321", "Combined execution time of incoming requests exceeded limit of"),
        ("concurrency", "0x80072326", "Number of concurrent requests exceeded the limit of"),
    ],
)
def test_each_throttle_has_its_code_and_retry_after(client: Any, kind: str, code: str, text: str) -> None:
    client.emulator.set_faults([{"action": "throttle", "code": kind, "retry_after": 7, "times": 1}])
    response = client.get("accounts")
    assert (response.status_code, response.headers["Retry-After"]) == (429, "7")
    assert response.json()["error"]["code"] == code
    assert response.json()["error"]["message"].startswith(text)
    assert client.get("accounts").status_code == 200


@pytest.mark.parametrize("status", [500, 502, 503])
def test_server_errors_with_and_without_retry_after(client: Any, status: int) -> None:
    client.emulator.set_faults([{"action": "status", "status": status}])
    response = client.get("accounts")
    assert response.status_code == status
    assert "Retry-After" not in response.headers
    client.emulator.set_faults([{"action": "status", "status": status, "retry_after": 3}])
    assert client.get("accounts").headers["Retry-After"] == "3"


def test_a_reset_breaks_the_connection_without_an_answer(client: Any) -> None:
    client.emulator.set_faults([{"action": "reset", "times": 1}])
    with pytest.raises(requests.ConnectionError):
        client.get("accounts")
    assert client.get("accounts").status_code == 200


def test_a_truncated_body_ends_before_its_content_length(client: Any) -> None:
    client.emulator.set_faults([{"action": "truncate", "times": 1}])
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        _ = client.get("opportunities").content
    assert client.get("opportunities").status_code == 200


def test_html_instead_of_json(client: Any) -> None:
    client.emulator.set_faults([{"action": "html"}])
    response = client.get("accounts")
    assert (response.status_code, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert response.text.startswith("<!DOCTYPE html>")


def test_rubbish_is_no_json(client: Any) -> None:
    client.emulator.set_faults([{"action": "rubbish"}])
    response = client.get("accounts")
    assert response.headers["Content-Type"].startswith("application/json")
    with pytest.raises(ValueError, match=r"."):
        response.json()


def test_a_slow_answer_is_late_and_right(client: Any) -> None:
    client.emulator.set_faults([{"action": "slow", "seconds": 0.5}])
    began = time.monotonic()
    assert client.get("accounts").status_code == 200
    assert time.monotonic() - began >= 0.5


def test_the_delta_link_can_be_missing(client: Any) -> None:
    client.emulator.set_faults([{"action": "drop_delta_link", "table": "opportunity"}])
    document = client.json("opportunities", prefer=TRACK)
    assert len(document["value"]) == 12
    assert "@odata.deltaLink" not in document
    assert "@odata.deltaLink" in client.json("accounts", prefer=TRACK)


def test_401_after_a_number_of_requests(client: Any) -> None:
    client.emulator.set_faults([{"action": "unauthorized", "after": 2, "times": 1}])
    assert _statuses(client, "accounts", 4) == [200, 200, 401, 200]


def test_a_value_of_the_wrong_type_and_a_row_without_key(client: Any) -> None:
    client.emulator.set_faults([{"action": "wrong_type", "column": "statecode", "value": "won"}])
    values = [row["statecode"] for row in client.json("opportunities?$select=statecode")["value"]]
    assert values.count("won") == 1
    client.emulator.set_faults([{"action": "row_without_key"}])
    rows = client.json("opportunities?$select=statecode")["value"]
    assert ["opportunityid" in row for row in rows].count(False) == 1


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ({}, [503] * 6),
        ({"nth": 2}, [200, 503, 200, 200, 200, 200]),
        ({"nth": [1, 4]}, [503, 200, 200, 503, 200, 200]),
        ({"every": 3}, [200, 200, 503, 200, 200, 503]),
        ({"after": 4}, [200, 200, 200, 200, 503, 503]),
        ({"times": 2}, [503, 503, 200, 200, 200, 200]),
        ({"probability": 0.0}, [200] * 6),
        ({"method": "post"}, [200] * 6),
        ({"path": "contacts"}, [200] * 6),
        ({"path": "accounts$"}, [503] * 6),
        ({"table": "account"}, [503] * 6),
        ({"table": "contact"}, [200] * 6),
    ],
)
def test_a_rule_fires_when_it_says(client: Any, when: dict[str, Any], expected: list[int]) -> None:
    client.emulator.set_faults([{"action": "status", "status": 503, "match": when}])
    assert _statuses(client, "accounts", 6) == expected


def test_chance_is_repeatable(client: Any) -> None:
    rule = {"action": "status", "status": 503, "probability": 0.5, "seed": 4}
    client.emulator.set_faults([rule])
    first = _statuses(client, "accounts", 20)
    client.emulator.set_faults([rule])
    assert _statuses(client, "accounts", 20) == first
    assert set(first) == {200, 503}


def test_tokens_are_only_touched_by_a_rule_with_their_path(client: Any) -> None:
    client.emulator.set_faults([{"action": "status", "status": 503}])
    client.login()
    client.emulator.set_faults([{"action": "throttle", "path": "/oauth2/v2.0/token$", "retry_after": 2}])
    url = f"{client.emulator.authority}/oauth2/v2.0/token"
    assert client.session.post(url, data={}, timeout=20).status_code == 429


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([{"action": "explode"}], "action 'explode' is not one of"),
        ([{"action": "slow", "secs": 1}], r"unknown keys \['secs'\]"),
        ([{"action": "throttle", "code": "x"}], "code is not one of"),
        (["slow"], "is not a mapping"),
        ("slow", "fault rules are a list"),
    ],
)
def test_a_wrong_rule_says_what_is_wrong(rules: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_rules(rules)


@pytest.mark.parametrize("text", ["- {action: slow, seconds: 1}\n", '[{"action": "slow", "seconds": 1}]', ""])
def test_rule_files_are_yaml_or_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "rules").write_text(text)
    assert [rule.action for rule in read_rules(tmp_path / "rules")] == (["slow"] if text else [])


def test_rules_given_at_the_start_are_in_force(start: Callable[..., Any]) -> None:
    client = start(faults=[{"action": "status", "status": 500, "nth": 1}])
    assert _statuses(client, "accounts", 2) == [500, 200]
