"""`/_control/...`: the switches of the stand-in over HTTP, for the quick start and the soak. No token needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from . import writes
from .errors import ApiError
from .faults import parse_rules
from .model import Table
from .organisation import Organisation

if TYPE_CHECKING:
    from .app import Server

Json = dict[str, Any]


def apply_operations(org: Organisation, operations: list[Mapping[str, Any]]) -> list[str]:
    """Apply a list of writes in one transaction; returns the ids they touched.

    Args:
        org: The organisation.
        operations: `{"op": "create" | "update" | "delete" | "merge", "table": ..., "id": ..., "values": {...}}`; for a
            merge `id` is the surviving row and `subordinate` (or `values.subordinateid`) the other; `cascade: false`
            keeps other rows as they are; `reported: false` makes it a write that change tracking never reports.

    Raises:
        ApiError: As the same write over the Web API would.
        ValueError: An operation is malformed.
    """
    touched = []
    with org.store.transaction():
        for number, item in enumerate(operations, start=1):
            table = org.store.tables.get(str(item.get("table")))
            if table is None:
                raise ValueError(f"operation {number}: unknown table {item.get('table')!r}")
            with nullcontext() if item.get("reported", True) else org.store.unreported():
                touched.append(_apply(org, table, item, number))
    return touched


def _apply(org: Organisation, table: Table, item: Mapping[str, Any], number: int) -> str:
    """Apply one operation; returns the id it touched."""
    row_id, values = str(item.get("id") or "").lower(), dict(item.get("values") or {})
    match item.get("op"):
        case "create":
            named = {table.primary_id: row_id} if row_id else {}
            row_id = writes.create(org, table, {**values, **named}, internal=True)
        case "update":
            writes.update(org, table, row_id, values, if_match="*", internal=True)
        case "delete":
            writes.delete(org, table, row_id, cascade=bool(item.get("cascade", True)))
        case "merge":
            other = [values.pop(key, None) for key in ("subordinate", "subordinateid")]
            subordinate = str(item.get("subordinate") or other[0] or other[1]).lower()
            cascade = bool(item.get("cascade", True))
            writes.merge_rows(org, table, row_id, subordinate, values, cascade=cascade)
        case unknown:
            raise ValueError(f"operation {number}: unknown op {unknown!r}")
    return row_id


def answer(server: Server, method: str, path: str, body: bytes) -> tuple[int, Json]:
    """Answer one control request: status and JSON document."""
    action = _ACTIONS.get((method, path.strip("/")))
    if action is None:
        known = sorted(f"{m} /_control/{p}" for m, p in _ACTIONS)
        return 404, {"error": f"unknown control {method} /_control/{path}", "known": known}
    try:
        document = json.loads(body, parse_float=Decimal) if body.strip() else {}
        return 200, action(server, document)
    except ApiError as error:
        return error.status, error.body()
    except (ValueError, KeyError, TypeError) as error:
        return 400, {"error": f"{type(error).__name__}: {error}"}


def _health(server: Server, _: Json) -> Json:
    return {"status": "ok", "url": server.base, **server.org.describe(), "faults": len(server.faults.rules)}


def _faults(server: Server, document: Any) -> Json:
    server.faults.set(parse_rules(document if isinstance(document, list) else document.get("rules", [])))
    return {"rules": len(server.faults.rules)}


def _fired(server: Server, _: Json) -> Json:
    return {"rules": [{"action": r.action, "matched": r.matched, "fired": r.fired} for r in server.faults.rules]}


def _operations(server: Server, document: Any) -> Json:
    items = document if isinstance(document, list) else document["operations"]
    return {"ids": apply_operations(server.org, items), "version": server.org.store.version}


def _rows(server: Server, document: Json) -> Json:
    table = server.org.store.tables[document["table"]].name
    return {"rows": server.org.store.rows(table), "version": server.org.store.version}


def _requests(server: Server, _: Json) -> Json:
    return {"requests": [vars(item) for item in server.requests]}


def _forget(server: Server, _: Json) -> Json:
    server.requests.clear()
    return {}


def _revoke(server: Server, _: Json) -> Json:
    server.authority.revoke_tokens()
    return {}


def _expire(server: Server, document: Json) -> Json:
    server.org.expire_change_tracking(document.get("table"))
    return {"version": server.org.store.version}


def _tracking(server: Server, document: Json) -> Json:
    server.org.set_change_tracking(document["table"], bool(document["enabled"]))
    return {}


def _privileges(server: Server, document: Json) -> Json:
    server.org.set_privileges(member=document.get("member", True), read=document.get("read"))
    return {}


def _drop_column(server: Server, document: Json) -> Json:
    server.org.drop_column(document["table"], document["column"])
    return {}


def _add_column(server: Server, document: Json) -> Json:
    server.org.add_column(**document)
    return {}


def _change_column(server: Server, document: Json) -> Json:
    server.org.change_column(**document)
    return {}


def _clock(server: Server, document: Json) -> Json:
    server.org.clock.advance(float(document["seconds"]))
    return {"now": server.org.clock.stamp()}


def _dop_hint(server: Server, document: Json) -> Json:
    server.dop_hint = int(document["requests"]) or None
    return {}


def _latency(server: Server, document: Json) -> Json:
    server.latency_ms = float(document["milliseconds"])
    return {}


_ACTIONS: dict[tuple[str, str], Callable[[Any, Any], Json]] = {
    ("GET", "health"): _health,
    ("POST", "faults"): _faults,
    ("GET", "faults"): _fired,
    ("POST", "operations"): _operations,
    ("POST", "rows"): _rows,
    ("GET", "requests"): _requests,
    ("DELETE", "requests"): _forget,
    ("POST", "revoke_tokens"): _revoke,
    ("POST", "expire_change_tracking"): _expire,
    ("POST", "change_tracking"): _tracking,
    ("POST", "privileges"): _privileges,
    ("POST", "drop_column"): _drop_column,
    ("POST", "add_column"): _add_column,
    ("POST", "change_column"): _change_column,
    ("POST", "clock"): _clock,
    ("POST", "latency"): _latency,
    ("POST", "dop_hint"): _dop_hint,
}
