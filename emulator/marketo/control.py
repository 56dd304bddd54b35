"""`/_control/...`: the switches of the stand-in over HTTP, for the quick start and other processes. No token needed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from . import writing
from .errors import RequestError
from .faults import parse_rules
from .instance import Instance

if TYPE_CHECKING:
    from .app import Server

Json = dict[str, Any]


def upsert(
    instance: Instance, path: str, records: Sequence[Mapping[str, Any]], lookup_field: str = "email"
) -> list[Json]:
    """Create or update records as a person in Marketo's own screens would: no limits, no native synchronisation.

    Raises:
        ValueError: A record is refused; those before it stand.
    """
    body = {"lookupField": lookup_field} if path == "leads" else {}
    return _apply(instance, path, records, body, writing.sync)


def delete(instance: Instance, path: str, keys: Sequence[Mapping[str, Any]]) -> list[Json]:
    """Delete records by key, as a person would.

    Raises:
        ValueError: A record is refused; those before it are gone.
    """
    return _apply(instance, path, keys, {}, writing.delete)


def _apply(
    instance: Instance,
    path: str,
    records: Sequence[Mapping[str, Any]],
    body: Json,
    write: Callable[..., list[Json]],
) -> list[Json]:
    table, results = instance.table(path), []
    with instance.call():
        native, instance.native_crm_sync = instance.native_crm_sync, False
        try:
            for start in range(0, len(records), writing.MOST_RECORDS):
                part = [dict(record) for record in records[start : start + writing.MOST_RECORDS]]
                results += write(instance, table, {**body, "input": part}, {})
        except RequestError as error:
            raise ValueError(str(error)) from error
        finally:
            instance.native_crm_sync = native
    for position, result in enumerate(results):
        if result["status"] == "skipped":
            raise ValueError(f"{path}, record {position}: {result['reasons']}")
    return results


def answer(server: Server, method: str, path: str, body: bytes) -> tuple[int, Json]:
    """Answer one control request: status and JSON document."""
    action = _ACTIONS.get((method, path.strip("/")))
    if action is None:
        known = sorted(f"{m} /_control/{p}" for m, p in _ACTIONS)
        return 404, {"error": f"unknown control {method} /_control/{path}", "known": known}
    try:
        document = json.loads(body) if body.strip() else {}
        return 200, action(server, document) or {}
    except (ValueError, KeyError, TypeError) as error:
        return 400, {"error": f"{type(error).__name__}: {error}"}


def _health(server: Server, _: Json) -> Json:
    return {"status": "ok", "url": server.base, **server.instance.describe(), "faults": len(server.faults.rules)}


def _counters(server: Server, _: Json) -> Json:
    limits = server.limits
    return {
        **server.counters.document(),
        "used_today": limits.used[limits.today()],
        "tokens_issued": server.identity.issued,
        "limits": {
            "calls_per_window": limits.calls_per_window,
            "concurrent_calls": limits.concurrent_calls,
            "daily_quota": limits.daily_quota,
        },
    }


def _requests(server: Server, _: Json) -> Json:
    entries = (asdict(entry) for entry in server.requests)
    return {"requests": [{k: v for k, v in entry.items() if k not in ("body", "answer")} for entry in entries]}


def _set_faults(server: Server, document: Any) -> Json:
    server.faults.set(parse_rules(document if isinstance(document, list) else document.get("rules", [])))
    return {"rules": len(server.faults.rules)}


def _fired(server: Server, _: Json) -> Json:
    return {"rules": [{"action": r.action, "matched": r.matched, "fired": r.fired} for r in server.faults.rules]}


def _records(server: Server, document: Json) -> Json:
    with server.instance.call():
        return {"records": list(server.instance.table(document["object"]))}


def _upsert(server: Server, document: Json) -> Json:
    lookup = document.get("lookup_field", "email")
    return {"result": upsert(server.instance, document["object"], document["records"], lookup)}


def _clock(server: Server, document: Json) -> Json:
    server.instance.clock.advance(float(document["seconds"]))
    return {"now": server.instance.clock.stamp()}


def _latency(server: Server, document: Json) -> None:
    server.latency_ms = float(document["milliseconds"])


def _native_crm_sync(server: Server, document: Json) -> None:
    server.instance.native_crm_sync = bool(document["on"])


_ACTIONS: dict[tuple[str, str], Callable[[Any, Any], Json | None]] = {
    ("GET", "health"): _health,
    ("GET", "counters"): _counters,
    ("DELETE", "counters"): lambda server, _: server.forget(),
    ("GET", "requests"): _requests,
    ("POST", "faults"): _set_faults,
    ("GET", "faults"): _fired,
    ("POST", "records"): _records,
    ("POST", "upsert"): _upsert,
    ("POST", "delete"): lambda server, d: {"result": delete(server.instance, d["object"], d["keys"])},
    ("POST", "revoke_tokens"): lambda server, _: server.identity.revoke(),
    ("POST", "expire_tokens"): lambda server, _: server.identity.expire(),
    ("POST", "native_crm_sync"): _native_crm_sync,
    ("POST", "access"): lambda server, document: server.instance.set_access(document),
    ("POST", "feature"): lambda server, d: server.instance.set_feature(d["object"], bool(d["on"])),
    ("POST", "field"): lambda server, d: server.instance.add_field(d.pop("object"), **d),
    ("POST", "limits"): lambda server, document: server.limits.set(**document),
    ("POST", "used_today"): lambda server, document: server.limits.set_used(int(document["calls"])),
    ("POST", "clock"): _clock,
    ("POST", "latency"): _latency,
}
