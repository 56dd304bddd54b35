"""Values of a field: what Marketo takes, and how it keeps it."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime
from typing import Any

from .errors import RecordError
from .model import Field

_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_TEXTS = frozenset({"string", "text", "email", "phone", "url"})


def stored(field: Field, value: Any) -> Any:
    """The value as it is kept; None empties the field, and so does an empty text.

    Raises:
        RecordError: 1001 for another type, 1003 for a text that is too long.
    """
    if value is None or value == "":
        return None
    try:
        kept = _convert(field.type, value)
    except (ValueError, TypeError, OverflowError) as error:
        raise RecordError(1001, f"Invalid value '{value}'. Required of type '{field.type}'") from error
    if field.length is not None and len(str(kept)) > field.length:
        raise RecordError(1003, f"Value for field '{field.name}' is longer than {field.length}")
    return kept


def _convert(kind: str, value: Any) -> Any:
    if isinstance(value, dict | list):
        raise TypeError(kind)
    if kind in _TEXTS:
        text = str(value)
        if kind == "email" and not text.isascii():
            raise ValueError(text)
        return text
    if kind == "boolean":
        return value if isinstance(value, bool) else {"true": True, "false": False}[_known(str(value).lower())]
    if isinstance(value, bool):
        raise TypeError(kind)
    if kind in ("integer", "percent"):
        return value if isinstance(value, int) else int(str(value))
    if kind in ("float", "currency"):
        number = float(value)
        if not math.isfinite(number):
            raise ValueError(value)
        return number
    if kind == "date":
        if not _DATE.fullmatch(str(value)):
            raise ValueError(value)
        return date.fromisoformat(value).isoformat()
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("no offset")
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _known(word: str) -> str:
    if word not in ("true", "false"):
        raise ValueError(word)
    return word


def index_key(field: Field, value: Any) -> str:
    """What a filter compares: e-mail addresses without regard to case, all else exactly."""
    return str(value).lower() if field.type == "email" else str(value)
