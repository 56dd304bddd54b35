"""Ask Marketo for the records with given values, however many it finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from opportunity_sync.marketo.errors import MarketoRefusedError

if TYPE_CHECKING:
    from opportunity_sync.marketo.client import MarketoClient

TOO_MANY_FOUND = 1003
"""So many records have these values that Marketo does not list them (of leads: more than 1,000)."""


def look_up(
    client: MarketoClient,
    object_name: str,
    field: str,
    values: Sequence[str],
    fields: Sequence[str],
    crowded: list[str] | None = None,
) -> list[dict[str, Any]]:
    """Read the records whose field has one of at most 300 values; where too many are found, in halves.

    Args:
        client: session with the instance.
        object_name: Marketo object.
        field: field to search by.
        values: values to search for.
        fields: fields to read.
        crowded: takes the values that too many records share; without it, such a value is an error.

    Raises:
        MarketoError: a call failed for good.
    """
    try:
        return client.lookup(object_name, field, values, fields)
    except MarketoRefusedError as error:
        if error.code != TOO_MANY_FOUND or (len(values) == 1 and crowded is None):
            raise
    if len(values) == 1 and crowded is not None:
        crowded.append(values[0])
        return []
    half = len(values) // 2
    return [
        *look_up(client, object_name, field, values[:half], fields, crowded),
        *look_up(client, object_name, field, values[half:], fields, crowded),
    ]
