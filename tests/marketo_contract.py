"""Checks an exchange with Marketo against `marketo_contract.json`, the facts we use of Adobe's description."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from emulator.marketo.api import effective_method
from emulator.marketo.app import Exchange

CONTRACT: dict[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
JSON, FORM = "application/json", "application/x-www-form-urlencoded"


class ContractError(AssertionError):
    """A request or an answer does not fit the description."""


def call_of(exchange: Exchange) -> str:
    """Method that is meant, and address."""
    return f"{effective_method(exchange.method, exchange.query)} {exchange.path}"


def check(exchange: Exchange) -> None:
    """Check both sides of an exchange, which a stand-in with `keep_bodies` recorded.

    Raises:
        ContractError: naming the call and what does not fit.
    """
    call = CONTRACT["calls"].get(call_of(exchange))
    if call is None:
        raise ContractError(f"{call_of(exchange)} is not in the description")
    _check_request(exchange, call)
    if exchange.status == 200:
        _valid(json.loads(exchange.answer), call["answer"], exchange)


def _check_request(exchange: Exchange, call: dict[str, Any]) -> None:
    given = parse_qs(exchange.query)
    by_post = given.pop("_method", None) is not None
    if exchange.method == "POST" and exchange.content_type == JSON:
        if "json" not in call:
            raise ContractError(f"{call_of(exchange)} takes no JSON body")
        _valid(json.loads(exchange.body), call["json"], exchange)
        required = []
    else:
        if by_post and exchange.content_type != FORM:
            raise ContractError(f"{call_of(exchange)}: the query in a body is a form, not {exchange.content_type!r}")
        given |= parse_qs(exchange.body.decode())
        required = call.get("required", [])
    unknown, missing = set(given) - set(call.get("query", ())), set(required) - set(given)
    if unknown or missing:
        raise ContractError(f"{call_of(exchange)}: unknown parameters {sorted(unknown)}, missing {sorted(missing)}")


def _valid(document: Any, definition: str, exchange: Exchange) -> None:
    from jsonschema import Draft202012Validator

    schema = {"$ref": f"#/$defs/{definition}", "$defs": CONTRACT["$defs"]}
    errors = sorted(Draft202012Validator(schema).iter_errors(document), key=lambda error: str(error.json_path))
    if errors:
        said = "; ".join(f"{error.json_path}: {error.message[:200]}" for error in errors[:3])
        raise ContractError(f"{call_of(exchange)} ({definition}): {said}")
