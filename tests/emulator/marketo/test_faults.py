from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from emulator.marketo.faults import parse_rules, read_rules

pytestmark = pytest.mark.slow

DEAL = {"input": [{"externalOpportunityId": "o1", "name": "n"}]}
LOOKUP = {"filterType": "dedupeFields", "filterValues": "o1"}


def _keys(api: Any) -> list[str]:
    return [record["externalOpportunityId"] for record in api.emulator.records("opportunities")]


@pytest.mark.parametrize("code", [601, 603, 604, 606, 607, 608, 611, 614, 615, 702, 703, 713])
def test_an_error_is_answered_and_nothing_is_executed(api: Any, code: int) -> None:
    api.emulator.set_faults([{"action": "error", "code": code, "times": 1}])
    document = api.post("opportunities.json", DEAL)
    assert api.code(document) == code
    assert document["errors"][0]["message"]
    assert _keys(api) == []
    assert api.post("opportunities.json", DEAL)["success"]


@pytest.mark.parametrize(
    ("rule", "used"), [({"code": 608}, 0), ({"code": 611}, 0), ({"code": 606}, 1), ({"code": 713}, 1)]
)
def test_injected_errors_count_as_real_ones(api: Any, rule: dict[str, int], used: int) -> None:
    api.emulator.set_faults([{"action": "error", **rule}])
    api.post("opportunities.json", DEAL)
    assert api.emulator.used_today == used
    assert api.emulator.counters.calls == 1


@pytest.mark.parametrize(
    "rule", [{"how": "reset"}, {"how": "status", "status": 502}, {"how": "html"}, {"how": "silence", "seconds": 30}]
)
def test_a_lost_answer_comes_after_the_write_took_effect(api: Any, rule: dict[str, Any]) -> None:
    api.emulator.set_faults([{"action": "lost", "times": 1, **rule}])
    if rule["how"] in ("status", "html"):
        response = api.raw("POST", "opportunities.json", json=DEAL)
        assert response.status_code == (502 if rule["how"] == "status" else 200)
        assert response.text.startswith("<html>")
    else:
        with pytest.raises((requests.ConnectionError, requests.Timeout)):
            api.raw("POST", "opportunities.json", json=DEAL, timeout=1)
    assert _keys(api) == ["o1"]
    assert api._outcomes(api.post("opportunities.json", DEAL)) == ["updated"]


def test_a_caller_who_hung_up_leaves_no_open_call_behind(api: Any) -> None:
    api.emulator.set_faults([{"action": "lost", "how": "silence", "seconds": 60, "times": 1}])
    with pytest.raises(requests.Timeout):
        api.raw("POST", "opportunities.json", json=DEAL, timeout=0.5)
    until = time.monotonic() + 10
    while api.emulator.server.limits._open and time.monotonic() < until:
        time.sleep(0.02)
    assert api.emulator.server.limits._open == 0


@pytest.mark.parametrize(
    ("rule", "status"),
    [({"action": "status", "status": 413}, 413), ({"action": "status"}, 502), ({"action": "html"}, 200)],
)
def test_a_proxys_answer_comes_without_execution(api: Any, rule: dict[str, Any], status: int) -> None:
    api.emulator.set_faults([rule])
    response = api.raw("POST", "opportunities.json", json=DEAL)
    assert response.status_code == status
    assert response.headers["Content-Type"].startswith("text/html")
    assert _keys(api) == []


def test_a_reset_comes_before_execution(api: Any) -> None:
    api.emulator.set_faults([{"action": "reset", "times": 1}])
    with pytest.raises(requests.ConnectionError):
        api.raw("POST", "opportunities.json", json=DEAL)
    assert _keys(api) == []
    assert api.post("opportunities.json", DEAL)["success"]


def test_a_truncated_answer_is_half_of_it(api: Any) -> None:
    api.emulator.set_faults([{"action": "truncate", "times": 1}])
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        api.raw("POST", "opportunities.json", json=DEAL)
    assert _keys(api) == ["o1"]


def test_rubbish_is_not_json(api: Any) -> None:
    api.emulator.set_faults([{"action": "rubbish"}])
    response = api.raw("POST", "opportunities.json", json=DEAL)
    assert response.headers["Content-Type"] == "application/json"
    with pytest.raises(requests.JSONDecodeError):
        response.json()
    assert _keys(api) == []


def test_a_short_answer_lacks_its_last_result(api: Any) -> None:
    api.emulator.set_faults([{"action": "short"}])
    records = [{"externalOpportunityId": key, "name": key} for key in "ab"]
    assert api.sync("opportunities", records) == ["created"]
    assert _keys(api) == ["a", "b"]


@pytest.mark.parametrize(
    ("settings", "outcomes"),
    [
        ({}, ["1003", "created", "created"]),
        ({"records": [1, 2]}, ["created", "1003", "1003"]),
        ({"records": "all"}, ["1003"] * 3),
    ],
)
def test_records_are_skipped_where_the_rule_says(api: Any, settings: dict[str, Any], outcomes: list[str]) -> None:
    api.emulator.set_faults([{"action": "skip", "code": 1003, "times": 1, **settings}])
    records = [{"externalOpportunityId": key, "name": key} for key in "abc"]
    assert api.sync("opportunities", records) == outcomes
    assert _keys(api) == [key for key, outcome in zip("abc", outcomes, strict=True) if outcome == "created"]


@pytest.mark.parametrize(("action", "code"), [("revoke", 601), ("expire", 602)])
def test_a_token_may_end_in_the_middle_of_a_run(api: Any, action: str, code: int) -> None:
    api.emulator.set_faults([{"action": action, "nth": 2}])
    assert api.get("stats/usage.json")["success"]
    assert api.code(api.get("stats/usage.json")) == code
    api.login()
    assert api.get("stats/usage.json")["success"]


def test_slow_is_late_but_right(api: Any) -> None:
    api.emulator.set_faults([{"action": "slow", "seconds": 0.3}])
    before = time.monotonic()
    assert api.post("opportunities.json", DEAL)["success"]
    assert time.monotonic() - before >= 0.3


def test_rules_match_by_object_method_and_address(api: Any) -> None:
    api.emulator.set_faults(
        [
            {"action": "error", "code": 611, "object": "opportunities/roles"},
            {"action": "error", "code": 608, "object": "opportunities", "method": "POST"},
            {"action": "error", "code": 713, "path": "usage"},
        ]
    )
    assert api.code(api.get("opportunities/roles/describe.json")) == 611
    assert api.code(api.post("opportunities/delete.json", {"input": [{"externalOpportunityId": "o"}]})) == 608
    assert api.code(api.get("stats/usage.json")) == 713
    assert api.get("opportunities.json", **LOOKUP)["success"]
    assert api.post("opportunities.json", params={"_method": "GET"}, data=None)["errors"][0]["code"] == "701"
    assert api.get("companies/describe.json")["success"]


def test_the_identity_endpoint_has_faults_by_address_only(api: Any) -> None:
    api.emulator.set_faults([{"action": "status", "status": 503}])
    assert api.token().status_code == 200
    api.emulator.set_faults([{"action": "status", "status": 503, "path": "/identity/", "times": 1}])
    assert [api.token().status_code for _ in range(2)] == [503, 200]


def test_what_a_rule_file_must_hold(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("- {action: error, code: 606, every: 3}\n- {action: lost, nth: [1, 4]}\n")
    first, second = read_rules(tmp_path / "rules.yaml")
    assert (first.settings, first.every, second.nth) == ({"code": 606}, 3, (1, 4))


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"action": "explode"}, "explode"),
        ({"action": "error"}, "code"),
        ({"action": "error", "code": 1004}, "code"),
        ({"action": "skip", "code": 606}, "code"),
        ({"action": "lost", "how": "quietly"}, "how"),
        ({"action": "reset", "table": "opportunity"}, "table"),
        ("reset", "mapping"),
    ],
)
def test_a_rule_that_cannot_work_is_refused(rule: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"fault rule 2.*{said}"):
        parse_rules([{"action": "reset"}, rule])


def test_controls_never_meet_faults(api: Any) -> None:
    assert api.control("POST", "faults", [{"action": "status", "path": "."}]) == (200, {"rules": 1})
    assert api.raw("GET", "stats/usage.json").status_code == 502
    status, body = api.control("GET", "faults")
    assert (status, body) == (200, {"rules": [{"action": "status", "matched": 1, "fired": 1}]})


def test_faults_of_the_start_are_in_force(launch: Callable[..., Any]) -> None:
    api = launch(faults=[{"action": "error", "code": 608}])
    assert api.code(api.get("stats/usage.json")) == 608
