"""Client of the Marketo REST API: what an instance has, and records created, updated, deleted and looked up.

https://experienceleague.adobe.com/en/docs/marketo-developer/marketo/rest/lead-database/opportunities
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

import msgspec

from opportunity_sync.marketo.auth import Credentials
from opportunity_sync.marketo.errors import (
    NATIVE_SYNC_ON,
    NO_DATA_FOUND,
    MarketoRefusedError,
    native_sync_on,
    protocol_error,
)
from opportunity_sync.marketo.objects import (
    LEAD_ABSENT,
    MOST_RECORDS,
    OBJECT_ABSENT,
    AnsweredRecord,
    Described,
    Description,
    RecordResult,
    check_batch,
    cut_into_batches,
    marketo_object,
)
from opportunity_sync.marketo.transport import FORM, JSON, Call, Transport

log = logging.getLogger(__name__)


class MarketoClient:
    """A session with one instance, for several threads at once. Use it as a context manager.

    Every call waits for a permit, which all clients of an instance in a process share. A call that fails for the moment
    is repeated, also when nobody knows whether it took effect (a timeout, a torn answer).

    Args:
        credentials: of the instance.
        options: as `Transport` takes them.
    """

    def __init__(self, credentials: Credentials, **options: Any) -> None:
        self._transport = Transport(credentials, **options)
        self.base_url = self._transport.base_url
        """Names the instance."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; no thread may be calling."""
        self._transport.close()

    @property
    def calls_made(self) -> int:
        """Calls sent so far that count towards the limits: repeated ones too, those for tokens not."""
        return self._transport.calls_made

    def usage_today(self) -> int:
        """Ask how many calls all integrations of the instance have made today (US Central).

        Raises:
            MarketoError: refused, or no usable answer.
        """
        return self._transport.usage_today()

    def describe(self, obj: str) -> Description:
        """Ask which fields an object has in this instance.

        Args:
            obj: `opportunities`, `opportunities/roles`, `companies` or `leads`.

        Raises:
            NativeSyncOnError: `opportunities/roles` does not exist there.
            MarketoError: refused, or no usable answer.
        """
        known = marketo_object(obj)
        answer = self._transport.call(Call("GET", f"{obj}/{known.describe}", known.reading))
        described = answer.results(list[Described], f"describing {obj}")
        if len(described) != 1:
            raise protocol_error(f"Marketo gave {len(described)} descriptions of {obj}")
        return described[0].description()

    @staticmethod
    def batches(records: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
        """Cut records, in their order, into lists that each fit one call: at most 300, and at most 1 MB."""
        return cut_into_batches(records)

    def upsert(
        self,
        obj: str,
        records: Sequence[Mapping[str, Any]],
        *,
        action: str = "createOrUpdate",
        lookup_field: str | None = None,
    ) -> list[RecordResult]:
        """Create or update one batch of records.

        A call whose outcome is unknown is repeated. With `createOrUpdate` and `updateOnly` that changes nothing; with
        `createOnly` a record that the first try created comes back as skipped (1005, 1017).

        Args:
            obj: `opportunities`, `opportunities/roles`, `companies` or `leads`.
            records: with pairwise different keys; None empties a field.
            action: `createOrUpdate`, `createOnly` or `updateOnly`.
            lookup_field: of leads: the field that is their key, if it is not the e-mail address.

        Returns:
            One result per record, in the same order.

        Raises:
            NativeSyncOnError: the instance takes none of them.
            MarketoProtocolError: the batch does not fit one call or holds a key twice; or the answer does not fit it.
            MarketoError: refused, or no usable answer.
        """
        key = (lookup_field,) if lookup_field else marketo_object(obj).dedupe_fields
        body: dict[str, Any] = {"action": action, "input": records}
        if lookup_field:
            body["lookupField"] = lookup_field
        return self._write(obj, obj, body, records, key)

    def delete(self, obj: str, keys: Sequence[Mapping[str, Any]]) -> list[RecordResult]:
        """Delete one batch of records.

        A call whose outcome is unknown is repeated. A record that the first try deleted then comes back as skipped with
        `OBJECT_ABSENT` (1013): count it as deleted, as it is no longer there, whoever removed it.

        Args:
            obj: `opportunities`, `opportunities/roles` or `companies`.
            keys: per record its dedupe fields and nothing else.

        Returns:
            One result per key, in the same order.

        Raises:
            NativeSyncOnError: the instance takes none of them.
            MarketoProtocolError: the batch does not fit one call or holds a key twice; or the answer does not fit it.
            MarketoError: refused, or no usable answer.
        """
        if obj == "leads":
            raise protocol_error("The sync deletes no leads")
        body = {"deleteBy": "dedupeFields", "input": keys}
        return self._write(obj, f"{obj}/delete", body, keys, marketo_object(obj).dedupe_fields)

    def lookup(self, obj: str, filter_type: str, values: Sequence[str], fields: Sequence[str]) -> list[dict[str, Any]]:
        """Read the records whose field has one of these values.

        The query travels in a body, so that no address, and no log of one, holds e-mail addresses. A value with a comma
        cannot be asked for (it would be taken for two), so nothing is found for it.

        Args:
            obj: `opportunities`, `opportunities/roles`, `companies` or `leads`.
            filter_type: one of the searchable fields.
            values: at most 300.
            fields: to read.

        Raises:
            MarketoRefusedError: the field cannot be searched, or too many records have one of the values.
            MarketoError: refused, or no usable answer.
        """
        if len(values) > MOST_RECORDS:
            raise protocol_error(f"{len(values)} values are too many for a look-up; the limit is {MOST_RECORDS}")
        possible = [value for value in values if value and "," not in value]
        if len(possible) < len(values):
            log.warning("%s: %d values cannot be looked up (empty or with a comma)", obj, len(values) - len(possible))
        if not possible:
            return []
        query = {"filterType": filter_type, "filterValues": ",".join(possible), "fields": ",".join(fields)}
        return self._look_up(obj, lambda page: urlencode(query | page).encode(), FORM)

    def lookup_keys(self, obj: str, keys: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> list[dict[str, Any]]:
        """Read the records with these keys, which may have several fields.

        Args:
            obj: `opportunities/roles`, or `opportunities`.
            keys: at most 300, per record its dedupe fields.
            fields: to read.

        Raises:
            MarketoError: refused, or no usable answer.
        """
        check_batch(obj, keys, marketo_object(obj).dedupe_fields)
        if not keys:
            return []
        query = {"filterType": "dedupeFields", "fields": fields, "input": keys}
        return self._look_up(obj, lambda page: msgspec.json.encode(query | page), JSON)

    def _write(
        self, obj: str, path: str, body: Mapping[str, Any], records: Sequence[Mapping[str, Any]], key: Sequence[str]
    ) -> list[RecordResult]:
        check_batch(obj, records, key)
        if not records:
            return []
        call = Call("POST", path, marketo_object(obj).writing, body=msgspec.json.encode(body), writes=True)
        answer = self._transport.call(call)
        answered = answer.results(list[AnsweredRecord], f"writing {obj}")
        if len(answered) != len(records):
            raise protocol_error(f"Marketo gave {len(answered)} results for {len(records)} records of {obj}")
        results = [each.result() for each in answered]
        if any(result.code == NATIVE_SYNC_ON for result in results):
            raise native_sync_on(f"Marketo answered {NATIVE_SYNC_ON} to records of {obj}")
        return results

    def _look_up(self, obj: str, body: Callable[[dict[str, str]], bytes], content_type: str) -> list[dict[str, Any]]:
        """Read all pages; `body` takes what a next page needs beside the query."""
        permission = marketo_object(obj).reading
        found: list[dict[str, Any]] = []
        page: dict[str, str] = {}
        while True:
            call = Call("POST", obj, permission, query="?_method=GET", body=body(page), content_type=content_type)
            try:
                answer = self._transport.call(call)
            except MarketoRefusedError as error:
                if error.code == NO_DATA_FOUND:
                    return found
                raise
            rows = answer.results(list[dict[str, Any]], f"looking up {obj}")
            found.extend(row for row in rows if _is_there(row, obj))
            token = answer.next_page_token
            if not token or answer.more_result is False:
                return found
            if token == page.get("nextPageToken"):
                raise protocol_error(f"A page of {obj} names itself as the next page")
            page = {"nextPageToken": token}


def _is_there(row: Mapping[str, Any], obj: str) -> bool:
    """Whether a row of a look-up is a record; a key that does not exist may be answered as a skipped one."""
    if row.get("status") != "skipped":
        return True
    try:
        code = msgspec.convert(row, AnsweredRecord).result().code
    except msgspec.ValidationError:
        code = None
    if code not in (OBJECT_ABSENT, LEAD_ABSENT):
        raise protocol_error(f"Marketo skipped a key in a look-up of {obj} with code {code}", code=code)
    return False
