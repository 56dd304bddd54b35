"""One REST call: which address, which permission, which body; everything else is done by `writing` and `reading`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import msgspec

from emulator.faults import Rule

from . import reading, writing
from .errors import NotSpokenError, RequestError
from .faults import skips
from .identity import API_USER
from .instance import Instance
from .limits import Counters, Limits
from .reading import Pages
from .table import Table

Json = dict[str, Any]
_ADDRESS = re.compile(
    r"/rest/v1/(?P<path>opportunities/roles|opportunities|companies|leads)(?:/(?P<part>describe2?|delete))?\.json"
)
_STATISTICS = re.compile(r"/rest/v1/stats/(?P<what>usage|errors)(?P<week>/last7days)?\.json")
_NOT_SPOKEN = re.compile(
    r"/bulk/|/rest/asset/|/rest/v1/(activities|campaigns|customobjects|lead/|leads/|list/|lists|namedaccount|program"
    r"|salespersons|opportunities/schema|companies/schema|partitions)"
)
_DAYS = 7


@dataclass(frozen=True)
class Call:
    """A request with a valid token.

    Attributes:
        method: HTTP method; `GET` too for a POST that says `_method=GET`.
        path: Address without the query.
        query: Query string.
        content_type: Of the body, without parameters.
        body: The body.
        rule: The fault rule that fired for it, if any.
    """

    method: str
    path: str
    query: str
    content_type: str
    body: bytes
    rule: Rule | None = None


@dataclass
class Service:
    """What a call works on."""

    instance: Instance
    limits: Limits
    counters: Counters
    pages: Pages = field(default_factory=Pages)


def effective_method(method: str, query: str) -> str:
    """The method that is meant: `_method=GET` makes a GET of a POST."""
    return "GET" if method == "POST" and parse_qs(query).get("_method") == ["GET"] else method


def answer(service: Service, call: Call) -> Json:
    """Execute a call; returns `result`, and what belongs to paging.

    Raises:
        RequestError: It is refused.
        NotSpokenError: Marketo knows this address, the stand-in does not.
    """
    statistics = _STATISTICS.fullmatch(call.path)
    if statistics:
        _require_method(call, "GET")
        return {"result": _statistics(service.limits, statistics["what"], whole_week=bool(statistics["week"]))}
    address = _ADDRESS.fullmatch(call.path)
    if address is None or (address["part"] == "describe2" and address["path"] != "leads"):
        if _NOT_SPOKEN.match(call.path):
            raise NotSpokenError(call.path)
        raise RequestError(610)
    with service.instance.call():
        return _object_call(service, call, service.instance.table(address["path"]), address["part"] or "")


def _object_call(service: Service, call: Call, table: Table, part: str) -> Json:
    instance, path = service.instance, table.kind.path
    if instance.native_crm_sync and path == "opportunities/roles":
        raise RequestError(610)
    if path in instance.switched_off:
        raise RequestError(703)
    reads = part.startswith("describe") or (not part and call.method == "GET")
    if not instance.may(path, "read" if reads else "write"):
        raise RequestError(603)
    if part.startswith("describe"):
        _require_method(call, "GET")
        if path != "leads":
            return {"result": reading.describe(table, crm_managed=instance.native_crm_sync and table.kind.crm_managed)}
        return {"result": (reading.describe_leads if part == "describe" else reading.describe_leads_2)(table)}
    if reads:
        return reading.find(service.pages, table, _lookup(call))
    _require_method(call, "POST")
    body = _json(call)
    for name in ("asyncProcessing", "partitionName"):
        if body.get(name):
            raise NotSpokenError(f"{name} of {call.path}")
    given = body.get("input")
    left_out = skips(call.rule, len(given) if isinstance(given, list) else 0)
    results = (writing.delete if part == "delete" else writing.sync)(instance, table, body, left_out)
    service.counters.records.update(f"{path} {result['status']}" for result in results)
    return {"result": results}


def _lookup(call: Call) -> reading.Lookup:
    """The question: in the query, in a form, or in a JSON body."""
    parameters = parse_qs(call.query)
    if call.content_type == "application/json" and call.body:
        return reading.parse(parameters, _json(call))
    if call.body and call.content_type != "application/x-www-form-urlencoded":
        raise RequestError(612)
    try:
        form = parse_qs(call.body.decode())
    except UnicodeDecodeError as error:
        raise RequestError(609) from error
    return reading.parse({**parameters, **form}, None)


def _json(call: Call) -> Mapping[str, Any]:
    if call.content_type != "application/json":
        raise RequestError(612)
    try:
        return msgspec.json.decode(call.body, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RequestError(609) from error


def _require_method(call: Call, method: str) -> None:
    if call.method != method:
        raise RequestError(605, f"HTTP Method '{call.method}' not supported")


def _statistics(limits: Limits, what: str, *, whole_week: bool) -> list[Json]:
    """Calls or errors of today, or of the days of this week that had any and today."""
    today = limits.today()
    if what == "usage":
        days = {day: count for day, count in limits.used.items() if count} | {today: limits.used[today]}
        shown: list[Json] = [
            {"date": str(day), "total": count, "users": [{"userId": API_USER, "count": count}]}
            for day, count in sorted(days.items(), reverse=True)
        ]
    else:
        errors = {**limits.errors, today: limits.errors[today]}
        shown = [
            {
                "date": str(day),
                "total": codes.total(),
                "errors": [{"errorCode": code, "count": count} for code, count in sorted(codes.items())],
            }
            for day, codes in sorted(errors.items(), reverse=True)
        ]
    return shown[: _DAYS if whole_week else 1]
