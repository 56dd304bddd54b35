"""Faults by rule: what can go wrong between a client and the real service, on demand and repeatable."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .model import standard_tables

ACTIONS = frozenset(
    {
        "throttle",
        "status",
        "reset",
        "truncate",
        "html",
        "slow",
        "drop_delta_link",
        "unauthorized",
        "rubbish",
        "wrong_type",
        "row_without_key",
    }
)
CHANGES_BODY = frozenset({"truncate", "drop_delta_link", "wrong_type", "row_without_key"})
_COMBINED_TIME = (
    "Combined execution time of incoming requests exceeded limit of 1,200,000 milliseconds over time window of 300 "
    "seconds. Decrease number of concurrent requests or reduce the duration of requests and try again later."
)
THROTTLES = {
    "requests": ("0x80072322", "Number of requests exceeded the limit of 8000 over time window of 300 seconds."),
    "time": (
        "0x80072321",
        _COMBINED_TIME,
    ),
    "concurrency": ("0x80072326", "Number of concurrent requests exceeded the limit of 100."),
}
STATUS_TEXT = {500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Timeout"}
_MATCH_KEYS = frozenset({"method", "path", "table", "nth", "every", "after", "times", "probability", "seed"})
_SETTING_KEYS = frozenset({"code", "retry_after", "status", "seconds", "column", "value"})
_KEYS = {table.entity_set: (name, table.primary_id) for name, table in standard_tables().items()}
_SET = re.compile(r"^/api/data/v[\d.]+/(\w+)")


@dataclass
class Rule:
    """One rule: when it matches a request, and what happens then.

    Attributes:
        action: One of `ACTIONS`.
        settings: The action's own settings: code, retry_after, status, seconds, column, value.
        method: HTTP method, any when empty.
        path: Regular expression searched in the path; without it only Web API requests match.
        table: Logical name of the table asked for.
        nth: Fires on these matching requests only (counted from 1).
        every: Fires on every so-manieth matching request.
        after: Fires only once this many matching requests have passed.
        times: Fires at most so often.
        probability: Fires with this probability, from a generator with `seed`.
    """

    action: str
    settings: dict[str, Any] = field(default_factory=dict)
    method: str = ""
    path: str = ""
    table: str = ""
    nth: tuple[int, ...] = ()
    every: int = 0
    after: int = 0
    times: int | None = None
    probability: float | None = None
    seed: int = 0
    matched: int = 0
    fired: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._path = re.compile(self.path) if self.path else None

    def matches(self, method: str, path: str) -> bool:
        """Whether this request is one the rule is about."""
        found = _SET.match(path)
        if not self.matches_request(method, path, by_default=found is not None):
            return False
        return not self.table or (found is not None and _KEYS.get(found[1], ("",))[0] == self.table)

    def matches_request(self, method: str, path: str, *, by_default: bool) -> bool:
        """Whether method and path are those of the rule; without a path in the rule, `by_default` decides."""
        if self.method and self.method.upper() != method:
            return False
        return self._path.search(path) is not None if self._path else by_default

    def fires(self, method: str, path: str) -> bool:
        """Count this request and decide."""
        if not self.matches(method, path):
            return False
        self.matched += 1
        if self.matched <= self.after or (self.times is not None and self.fired >= self.times):
            return False
        if self.nth and self.matched not in self.nth:
            return False
        if self.every and self.matched % self.every:
            return False
        if self.probability is not None and self._random.random() >= self.probability:
            return False
        self.fired += 1
        return True


def parse_rules(raw: object) -> list[Rule]:
    """Rules from a list of mappings (see README).

    Raises:
        ValueError: Unknown action or key, with the rule's number.
    """
    if raw is None:
        return []
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        raise ValueError("fault rules are a list")
    return [_rule(number, item) for number, item in enumerate(raw, start=1)]


def _rule(number: int, item: object) -> Rule:
    if isinstance(item, Rule):
        return item
    action, settings, match = read_rule(number, item, ACTIONS, _MATCH_KEYS, _SETTING_KEYS)
    if action == "throttle" and settings.get("code", "requests") not in THROTTLES:
        raise ValueError(f"fault rule {number}: code is not one of {sorted(THROTTLES)}")
    return Rule(action=action, settings=settings, **match)


def read_rule(
    number: int, item: object, actions: frozenset[str], match_keys: frozenset[str], setting_keys: frozenset[str]
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Action, settings and conditions of one rule as it was written.

    Raises:
        ValueError: Not a mapping, or an unknown action or key.
    """
    if not isinstance(item, Mapping):
        raise ValueError(f"fault rule {number} is not a mapping")
    values = {**item.get("match", {}), **{key: value for key, value in item.items() if key != "match"}}
    action = values.pop("action", None)
    if action not in actions:
        raise ValueError(f"fault rule {number}: action {action!r} is not one of {sorted(actions)}")
    unknown = set(values) - match_keys - setting_keys
    if unknown:
        raise ValueError(f"fault rule {number}: unknown keys {sorted(unknown)}")
    settings = {key: values.pop(key) for key in list(values) if key in setting_keys}
    if "nth" in values:
        values["nth"] = (values["nth"],) if isinstance(values["nth"], int) else tuple(values["nth"])
    return str(action), settings, values


def read_rules(path: Path) -> list[Rule]:
    """Rules from a YAML or JSON file (JSON is YAML)."""
    return parse_rules(yaml.safe_load(path.read_text(encoding="utf-8")))


class Faults:
    """The rules in force; the first that fires wins."""

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self._lock = threading.Lock()
        self.rules: list[Rule] = list(rules)

    def set(self, rules: Sequence[Rule]) -> None:
        """Replace all rules."""
        with self._lock:
            self.rules = list(rules)

    def choose(self, method: str, path: str) -> Rule | None:
        """The rule that fires for this request, if any."""
        if path.startswith("/_control"):
            return None
        with self._lock:
            chosen = None
            for rule in self.rules:
                if rule.fires(method, path):
                    chosen = rule
                    break
            return chosen


def changed_body(rule: Rule, path: str, body: bytes) -> bytes:
    """The answer's body with the fault in it; unchanged where there is nothing to change."""
    try:
        document = json.loads(body)
    except ValueError:
        return body
    if not isinstance(document, dict):
        return body
    rows = [row for row in document.get("value", []) if isinstance(row, dict) and row.get("reason") != "deleted"]
    if rule.action == "drop_delta_link":
        document.pop("@odata.deltaLink", None)
    elif rows and rule.action == "row_without_key":
        found = _SET.match(path)
        rows[len(rows) // 2].pop(_KEYS.get(found[1], ("", ""))[1] if found else "", None)
    elif rows and rule.action == "wrong_type":
        rows[len(rows) // 2][rule.settings["column"]] = rule.settings.get("value", {"unexpected": ["object"]})
    return json.dumps(document, ensure_ascii=False).encode()
