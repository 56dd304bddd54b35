"""Reading seed rows: a folder with one JSON array per entity set, rows in Web API shape.

Numbers keep their digits: a row is a mapping from property to raw JSON text.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from .model import CHOICES, FORMATTED, LOOKUP_TYPE, Column, Table, with_column

RawRow = dict[str, msgspec.Raw]
_decode_row = msgspec.json.Decoder(RawRow).decode
_decode_rows = msgspec.json.Decoder(list[RawRow]).decode
_WHOLE_FILE_LIMIT = 64 * 1024 * 1024
_DATE = re.compile(r"^\d{4}-\d\d-\d\d$")
_DATE_TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d")
_GUID = re.compile(r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$")


def read_rows(path: Path) -> Iterator[RawRow]:
    """Rows of one file, streamed when the file is large and its rows start on lines of their own.

    Raises:
        ValueError: The file is not a JSON array of objects.
    """
    try:
        if path.stat().st_size <= _WHOLE_FILE_LIMIT:
            yield from _decode_rows(path.read_bytes())
        else:
            yield from _read_lines(path)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path.name}: not a JSON array of rows: {error}") from error


def _read_lines(path: Path) -> Iterator[RawRow]:
    pending = b""
    with path.open("rb") as stream:
        for line in stream:
            text = line.strip()
            if not pending:
                text = text.removeprefix(b"[").strip()
            if not text or (not pending and text in (b"]", b",")):
                continue
            pending += text
            if text.endswith((b"}", b"},", b"}]")):
                try:
                    row = _decode_row(pending.rstrip(b",]"))
                except msgspec.DecodeError:
                    continue  # a brace inside a row spread over several lines
                yield row
                pending = b""
    if pending.strip(b"]"):
        yield from _decode_rows((b"[" + pending) if not pending.startswith(b"[") else pending)


class Discovery:
    """Columns and choice labels that the rows of one table have and the standard metadata lacks."""

    def __init__(self, table: Table) -> None:
        self._known = table.properties
        self._samples: dict[str, list[object]] = defaultdict(list)
        self._targets: dict[str, set[str]] = defaultdict(set)
        self._labels: dict[str, dict[int, str]] = defaultdict(dict)
        self._names = frozenset(self._known)

    def see(self, row: Mapping[str, msgspec.Raw]) -> None:
        """Take note of one row."""
        for key, raw in row.items():
            if "@" not in key:
                if key not in self._names and len(self._samples[key]) < 50 and bytes(raw) != b"null":
                    self._samples[key].append(msgspec.json.decode(raw))
            elif key.endswith(LOOKUP_TYPE):
                name = key[: -len(LOOKUP_TYPE)]
                if name not in self._names:
                    self._targets[name].add(msgspec.json.decode(raw))
            elif key.endswith(FORMATTED):
                name = key[: -len(FORMATTED)]
                column = self._known.get(name)
                value = row.get(name)
                if value is None or bytes(raw) == b"null" or bytes(value)[:1] not in b"-0123456789":
                    continue
                if column is None or column.type in CHOICES:
                    number = bytes(value)
                    if number.lstrip(b"-").isdigit() and (column is None or int(number) not in column.options):
                        self._labels[name][int(number)] = msgspec.json.decode(raw)

    def apply(self, table: Table) -> Table:
        """The table with the discovered columns and labels."""
        for name in sorted({*self._samples, *self._targets}):
            table = with_column(table, self._derive(name))
        for name, labels in self._labels.items():
            column = table.properties.get(name)
            if column is not None and column.type in CHOICES:
                state = 0 if column.type == "Status" else None
                merged = {**{value: (label, state) for value, label in labels.items()}, **column.options}
                table = with_column(table, replace(column, options=merged))
        return table

    def _derive(self, name: str) -> Column:
        values = self._samples.get(name, [])
        if name.startswith("_") and name.endswith("_value"):
            logical = name[1:-6]
            targets = sorted(self._targets.get(name, set())) or ["systemuser"]
            navigation = {t: logical if len(targets) == 1 else f"{logical}_{t}" for t in targets}
            return Column(name=logical, type="Lookup", targets=navigation, custom=True)
        if name in self._labels:
            return Column(name=name, type="Picklist", custom=True)
        facts = _type_of(values)
        if facts["type"] == "Decimal" and (name.endswith("_base") or f"{name}_base" in self._samples):
            facts = {"type": "Money", "precision": 2}  # only money columns have a twin in the base currency
        return Column(name=name, custom=True, **facts)  # type: ignore[arg-type]


def _type_of(values: Iterable[object]) -> dict[str, object]:
    """Type of a custom column from its values (a seed carries no types of its own)."""
    seen = list(values)
    if seen and all(isinstance(value, bool) for value in seen):
        return {"type": "Boolean", "options": {0: ("No", None), 1: ("Yes", None)}}
    if seen and all(isinstance(value, int) for value in seen):
        big = any(abs(int(str(value))) >= 2**31 for value in seen)
        return {"type": "BigInt" if big else "Integer"}
    if seen and all(isinstance(value, int | float) for value in seen):
        return {"type": "Decimal", "precision": 10}
    texts = [value for value in seen if isinstance(value, str)]
    if texts and all(_GUID.match(text) for text in texts):
        return {"type": "Uniqueidentifier"}
    if texts and all(_DATE.match(text) for text in texts):
        return {"type": "DateTime", "format": "DateOnly", "behavior": "DateOnly"}
    if texts and all(_DATE_TIME.match(text) for text in texts):
        return {"type": "DateTime"}
    return (
        {"type": "Memo", "length": 1048576} if any(len(t) > 4000 for t in texts) else {"type": "String", "length": 4000}
    )
