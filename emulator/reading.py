"""Reads: one row, a collection page by page, a tracked read, the changes since a delta token."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta

from .cookies import Cookie, DeltaToken, read_cookie, read_token, write_cookie
from .errors import bad_query, no_property, no_row, not_spoken, tracking_off, version_stamp_expired
from .filters import filter_sql, order_sql
from .model import Column, Table
from .organisation import Organisation
from .query import MAX_PAGE, Options, Preferences
from .render import renderer


def selected(table: Table, names: tuple[str, ...] | None) -> list[Column]:
    """The columns to send; images only on demand.

    Raises:
        ApiError: 400 for a property that does not exist.
    """
    properties = table.properties
    if names is None:
        return [column for column in properties.values() if column.type not in ("Virtual", "ManagedProperty")]
    found = []
    for name in dict.fromkeys(names):
        column = properties.get(name)
        if column is None:
            raise no_property(name, table.name)
        found.append(column)
    return found


def _context(root: str, table: Table, options: Options, suffix: str = "") -> str:
    shown = f"({','.join(options.select)})" if options.select else ""
    return f"{root}$metadata#{table.entity_set}{shown}{suffix}"


def read_one(org: Organisation, root: str, table: Table, row_id: str, options: Options, prefer: Preferences) -> bytes:
    """One row by its key.

    Raises:
        ApiError: 404 when there is none.
    """
    if options.expand:
        raise not_spoken("$expand on rows")
    found = org.store.select(table.name, "id = ?", (row_id.lower(),))
    if not found:
        raise no_row(table.name, row_id)
    row = renderer(table, selected(table, options.select), prefer.wants)(found[0][1], found[0][2])
    context = json.dumps(_context(root, table, options, "/$entity"))
    return f'{{"@odata.context":{context},'.encode() + row[1:]


def count(org: Organisation, table: Table, options: Options) -> int:
    """`/$count`: at most 5,000; with a delta token, the number of waiting changes."""
    if options.deltatoken is not None:
        token = _valid_token(org, table, read_token(options.deltatoken))
        until = org.store.version
        changed = len(org.store.reported_between(table.name, token.version, until, (0, ""), -1))
        return changed + len(org.store.deleted_between(table.name, token.version, until, (0, ""), -1))
    where, parameters = filter_sql(table, options.filter) if options.filter else ("1", [])
    return min(org.store.count(table.name, where, parameters), MAX_PAGE)


def read_page(org: Organisation, root: str, table: Table, options: Options, prefer: Preferences) -> bytes:
    """One page of a collection.

    Raises:
        ApiError: 400 for a refused query, an edited link, tracking that is off, an expired token; 501 for $expand.
    """
    size = min(prefer.max_page_size or MAX_PAGE, org.page_size)
    cookie = read_cookie(options.skiptoken) if options.skiptoken is not None else None
    if options.deltatoken is not None or (cookie is not None and cookie.kind in ("upserts", "deletes")):
        return _changes(org, root, table, options, prefer, cookie, size)
    token = _tracking_token(org, table, options, cookie) if prefer.track_changes or (cookie and cookie.token) else None
    if options.expand:
        raise not_spoken("$expand on rows")
    where, parameters = filter_sql(table, options.filter) if options.filter else ("1", [])
    total = min(org.store.count(table.name, where, parameters), MAX_PAGE) if options.count else None
    order, offset = "id", 0
    if options.orderby:
        order = order_sql(table, options.orderby)
        offset = int(cookie.last) if cookie and cookie.kind == "offset" else 0
    elif cookie:
        where, parameters = f"id > ? and {where}", [cookie.last.lower(), *parameters]
    limit = min(options.top, MAX_PAGE) if options.top else size
    found = org.store.select(table.name, where, parameters, order, limit + 1, offset)
    more, found = len(found) > limit and options.top is None, found[:limit]
    render = renderer(table, selected(table, options.select), prefer.wants)
    parts = [f'"@odata.context":{json.dumps(_context(root, table, options))}'.encode()]
    if total is not None:
        parts.append(f'"@odata.count":{total}'.encode())
    parts.append(b'"value":[' + b",".join(render(version, body) for _, version, body in found) + b"]")
    if more:
        number = cookie.page + 1 if cookie else 2
        text = token.text() if token else ""
        if options.orderby:
            after = Cookie(number, "offset", str(offset + limit), str(offset), text)
        else:
            after = Cookie(number, table.primary_id, found[-1][0].upper(), found[0][0].upper(), text)
        parts.append(_link("nextLink", root, table, options, f"$skiptoken={write_cookie(after)}"))
    elif token:
        parts.append(_link("deltaLink", root, table, options, f"$deltatoken={token.quoted()}"))
    return b"{" + b",".join(parts) + b"}"


def _link(kind: str, root: str, table: Table, options: Options, token: str) -> bytes:
    query = "&".join(part for part in (options.kept(), token) if part)
    return f'"@odata.{kind}":{json.dumps(f"{root}{table.entity_set}?{query}")}'.encode()


def _refuse_with_tracking(table: Table, options: Options) -> None:
    if not table.change_tracking:
        raise tracking_off(table.name)
    for option, value in (
        ("$filter", options.filter),
        ("$orderby", options.orderby),
        ("$expand", options.expand),
        ("$top", options.top),
        ("$count", options.count),
    ):
        if value:
            raise bad_query(f"The {option} query parameter is not supported when tracking changes.")


def _tracking_token(org: Organisation, table: Table, options: Options, cookie: Cookie | None) -> DeltaToken:
    """The token a tracked read ends with: the state at its FIRST page, so later changes come with the next delta."""
    _refuse_with_tracking(table, options)
    org.require_read(table.name, "Global")
    if cookie is not None:
        if not cookie.token:
            raise bad_query("The paging cookie does not belong to a tracked read.")
        return read_token(cookie.token)
    return DeltaToken(org.store.version, org.clock.now())


def _valid_token(org: Organisation, table: Table, token: DeltaToken) -> DeltaToken:
    oldest = org.clock.now() - timedelta(days=org.tracking_days)
    if token.version > org.store.version or token.version < org.oldest_version(table.name) or token.issued < oldest:
        raise version_stamp_expired()
    return token


def _changes(
    org: Organisation, root: str, table: Table, options: Options, prefer: Preferences, cookie: Cookie | None, size: int
) -> bytes:
    """A page of a delta answer: creates and updates by version, then deletes; links stand before `value`."""
    _refuse_with_tracking(table, options)
    org.require_read(table.name, "Global")
    if cookie is None:
        since = _valid_token(org, table, read_token(options.deltatoken or ""))
        until = DeltaToken(org.store.version, org.clock.now())
        stage, position = "upserts", (0, "")
    else:
        from_text, _, until_text = cookie.token.partition("|")
        since, until = read_token(from_text), read_token(until_text)
        stage, position = cookie.kind, _position(cookie.last)
    render = renderer(table, selected(table, options.select), prefer.wants)
    items: list[bytes] = []
    if stage == "upserts":
        found = org.store.reported_between(table.name, since.version, until.version, position, size + 1)
        items += [render(version, body) for _, version, body in found[:size]]
        if len(found) > size:
            return _delta_page(
                root, table, options, items, until, _next(cookie, "upserts", found[size - 1], since, until)
            )
        position = (0, "")
    gone = org.store.deleted_between(table.name, since.version, until.version, position, size - len(items) + 1)
    room = size - len(items)
    context = json.dumps(f"{root}$metadata#{table.entity_set}/$deletedEntity")
    items += [
        f'{{"@odata.context":{context},"id":"{row_id}","reason":"deleted"}}'.encode() for row_id, _ in gone[:room]
    ]
    if len(gone) > room:
        last = gone[room - 1] if room else ("", 0)
        return _delta_page(root, table, options, items, until, _next(cookie, "deletes", last, since, until))
    return _delta_page(root, table, options, items, until, None)


def _position(text: str) -> tuple[int, str]:
    version, _, row_id = text.partition(":")
    return int(version or 0), row_id


def _next(cookie: Cookie | None, stage: str, last: Sequence[object], since: DeltaToken, until: DeltaToken) -> Cookie:
    number = cookie.page + 1 if cookie else 2
    return Cookie(number, stage, f"{last[1]}:{last[0]}", "", f"{since.text()}|{until.text()}")


def _delta_page(
    root: str, table: Table, options: Options, items: list[bytes], token: DeltaToken, after: Cookie | None
) -> bytes:
    if after is not None:
        link = _link("nextLink", root, table, options, f"$skiptoken={write_cookie(after)}")
    else:
        link = _link("deltaLink", root, table, options, f"$deltatoken={token.quoted()}")
    context = f'"@odata.context":{json.dumps(_context(root, table, options, "/$delta"))}'.encode()
    return b"{" + context + b"," + link + b',"value":[' + b",".join(items) + b"]}"
