"""Rows as the Web API sends them: selected properties, annotations asked for, some null keys left out."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from .model import CHOICES, FORMATTED, LOOKUP_TYPE, LOOKUPS, NAVIGATION, Column, Table
from .seed import RawRow

_decode_row = msgspec.json.Decoder(RawRow).decode
_NULL = b"null"
_ABSENT_ONE_IN = 8
_NEVER_FORMATTED = frozenset({"String", "Memo", "Uniqueidentifier"})


@dataclass(frozen=True)
class _Plan:
    """How to send one column; `formatted`, `lookup_type`, `navigation` are the keys of annotations asked for."""

    prop: str
    key: bytes
    salt: int
    column: Column
    formatted: bytes = b""
    lookup_type: bytes = b""
    navigation: bytes = b""
    only_target: bytes = b""

    @property
    def annotated(self) -> bool:
        return bool(self.formatted or self.lookup_type or self.navigation)


def _plan(column: Column, wants: Callable[[str], bool]) -> _Plan:
    prop = column.property

    def key(suffix: str, *, wanted: bool) -> bytes:
        return f",{json.dumps(prop + suffix)}:".encode() if wanted else b""

    lookup = column.type in LOOKUPS
    return _Plan(
        prop,
        key("", wanted=True),
        zlib.crc32(prop.encode()),
        column,
        formatted=key(FORMATTED, wanted=wants(FORMATTED[1:]) and column.type not in _NEVER_FORMATTED),
        lookup_type=key(LOOKUP_TYPE, wanted=lookup and wants(LOOKUP_TYPE[1:])),
        navigation=key(NAVIGATION, wanted=lookup and wants(NAVIGATION[1:])),
        only_target=json.dumps(next(iter(column.targets))).encode() if len(column.targets) == 1 else b"",
    )


def renderer(table: Table, selected: Sequence[Column], wants: Callable[[str], bool]) -> Callable[[int, bytes], bytes]:
    """A function from (version, stored body) to the row's JSON.

    Args:
        table: The table.
        selected: Columns to send; the primary key is added when missing.
        wants: Whether an annotation with this name (without `@`) was asked for.
    """
    columns = list(selected)
    if all(column.name != table.primary_id for column in columns):
        columns.append(table.columns[table.primary_id])
    steps = [(p.prop, p.key, p.salt, p if p.annotated else None) for p in (_plan(c, wants) for c in columns)]
    primary_id = table.primary_id

    def render(version: int, body: bytes) -> bytes:
        row = _decode_row(body)
        seed = zlib.crc32(bytes(row[primary_id]).lower())
        number = str(version).encode()
        parts = [b'{"@odata.etag":"W/\\"', number, b'\\""']
        get, add = row.get, parts.append
        for prop, key, salt, plan in steps:
            value = get(prop)
            if value is None or (raw := bytes(value)) == _NULL:
                if prop == "versionnumber":
                    add(key + number)
                elif (seed ^ salt) % _ABSENT_ONE_IN:
                    add(key + _NULL)
                continue
            if plan is not None:
                _annotate(plan, row, raw, add)
            add(key + raw)
        add(b"}")
        return b"".join(parts)

    return render


def _annotate(plan: _Plan, row: RawRow, raw: bytes, add: Callable[[bytes], None]) -> None:
    """Annotations stand before the property they belong to."""
    if plan.formatted:
        seeded = row.get(plan.prop + FORMATTED)
        if seeded is not None and bytes(seeded) != _NULL:
            add(plan.formatted + bytes(seeded))
        elif (text := formatted_value(plan.column, raw)) is not None:
            add(plan.formatted + json.dumps(text, ensure_ascii=False).encode())
    if plan.navigation or plan.lookup_type:
        kind = row.get(plan.prop + LOOKUP_TYPE)
        target = bytes(kind) if kind is not None and bytes(kind) != _NULL else plan.only_target
        if target and plan.navigation and (name := plan.column.targets.get(json.loads(target))):
            add(plan.navigation + json.dumps(name).encode())
        if target and plan.lookup_type:
            add(plan.lookup_type + target)


def formatted_value(column: Column, raw: bytes) -> str | None:
    """The text a user with English settings and US dollars sees; None where Dataverse sends none."""
    if column.type in CHOICES or column.type == "Boolean":
        if column.type == "Boolean":
            number = int(raw == b"true")
        elif raw.lstrip(b"-").isdigit():
            number = int(raw)
        else:
            return None
        label = column.options.get(number)
        if label is None and column.type == "Boolean":
            return "Yes" if number else "No"
        return label[0] if label else None
    if column.type == "Money":
        return f"${float(raw):,.2f}"
    if column.type in ("Integer", "BigInt") and raw.lstrip(b"-").isdigit():
        return f"{int(raw):,}"
    if column.type in ("Decimal", "Double"):
        return f"{float(raw):,.{column.precision or 2}f}"
    if column.type == "DateTime":
        text = json.loads(raw)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return None
        day = f"{moment.month}/{moment.day}/{moment.year}"
        if column.format == "DateOnly":
            return day
        return f"{day} {(moment.hour % 12) or 12}:{moment.minute:02d} {'PM' if moment.hour >= 12 else 'AM'}"
    return None
