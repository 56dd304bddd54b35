"""Faults by rule, in the shape of the other stand-in's rules, with what can go wrong at Marketo."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from emulator import faults

from .errors import MESSAGES

ACTIONS = frozenset(
    {
        "error",
        "skip",
        "status",
        "html",
        "rubbish",
        "reset",
        "slow",
        "lost",
        "truncate",
        "short",
        "revoke",
        "expire",
    }
)
LOSSES = ("reset", "silence", "status", "html")
_MATCH_KEYS = frozenset({"method", "path", "object", "nth", "every", "after", "times", "probability", "seed"})
_SETTING_KEYS = frozenset({"code", "message", "status", "seconds", "how", "records"})
_OBJECT = re.compile(r"^/rest/v1/(opportunities/roles|opportunities|companies|leads)[/.]")


@dataclass
class Rule(faults.Rule):
    """One rule (see `emulator.faults.Rule`).

    Attributes:
        object: `opportunities`, `opportunities/roles`, `companies` or `leads`: only calls about it.
    """

    object: str = ""

    def matches(self, method: str, path: str) -> bool:
        """Whether this request is one the rule is about; without a path, REST calls only."""
        if not self.matches_request(method, path, by_default=path.startswith("/rest/")):
            return False
        found = _OBJECT.match(path)
        return not self.object or (found is not None and found[1] == self.object)


def parse_rules(raw: object) -> list[Rule]:
    """Rules from a list of mappings (see README).

    Raises:
        ValueError: Unknown action, key or code, with the rule's number.
    """
    if raw is None:
        return []
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        raise ValueError("fault rules are a list")
    return [_rule(number, item) for number, item in enumerate(raw, start=1)]


def _rule(number: int, item: object) -> Rule:
    if isinstance(item, Rule):
        return item
    action, settings, match = faults.read_rule(number, item, ACTIONS, _MATCH_KEYS, _SETTING_KEYS)
    if action in ("error", "skip"):
        settings["code"] = int(settings.get("code", 0))
        least, most = (601, 799) if action == "error" else (1001, 1099)
        if settings["code"] not in MESSAGES or not least <= settings["code"] <= most:
            raise ValueError(f"fault rule {number}: action {action} needs a code that is known, from {least} to {most}")
    if action == "lost" and settings.get("how", "reset") not in LOSSES:
        raise ValueError(f"fault rule {number}: how is not one of {LOSSES}")
    return Rule(action=action, settings=settings, **match)


def read_rules(path: Path) -> list[Rule]:
    """Rules from a YAML or JSON file (JSON is YAML)."""
    return parse_rules(yaml.safe_load(path.read_text(encoding="utf-8")))


def skips(rule: faults.Rule | None, length: int) -> Mapping[int, int]:
    """Position to code of the records a rule leaves out; `records` defaults to the first."""
    if rule is None or rule.action != "skip":
        return {}
    wanted = rule.settings.get("records", [0])
    positions = range(length) if wanted == "all" else wanted
    return {int(position): int(rule.settings["code"]) for position in positions}
