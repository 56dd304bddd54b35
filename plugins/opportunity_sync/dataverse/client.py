"""Client of the Dataverse Web API: who am I, metadata, and pages of rows kept as the bytes the service sent.

Paging: https://learn.microsoft.com/power-apps/developer/data-platform/webapi/query/page-results
Change tracking:
https://learn.microsoft.com/power-apps/developer/data-platform/use-change-tracking-synchronize-data-external-systems
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http.cookiejar import DefaultCookiePolicy
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import quote, urlsplit

import msgspec
import requests
from requests.auth import AuthBase

from opportunity_sync import __version__
from opportunity_sync.backoff import with_retries
from opportunity_sync.dataverse.auth import connection_error
from opportunity_sync.dataverse.errors import ProtocolError, error_from_response
from opportunity_sync.dataverse.exact import ExactAdapter
from opportunity_sync.errors import ConfigurationError

T = TypeVar("T")

API = "/api/data/v9.2/"
LARGEST_ANSWER_BYTES = 256 * 1024 * 1024
"""Memory that one answer may take; a page of 5000 rows is usually 5 to 20 MB."""
LONGEST_CONNECT_SECONDS = 30.0
_CHUNK_BYTES = 1024 * 1024
_PRINTABLE = "".join(chr(code) for code in range(0x21, 0x7F))


@dataclass(frozen=True)
class WhoAmI:
    """The caller as the organisation knows it."""

    organization_id: str
    user_id: str
    business_unit_id: str


@dataclass(frozen=True)
class Page:
    """One page of rows."""

    number: int
    """From 1."""
    requested_at: datetime
    """UTC, before the request that succeeded was sent."""
    received_at: datetime
    """UTC, after the last byte of the answer."""
    rows: msgspec.Raw
    """The JSON array of rows, as sent."""
    next_link: str | None
    """Path and query of the next page."""
    delta_link: str | None
    """Path and query from which later changes can be read."""


class _Who(msgspec.Struct):
    OrganizationId: str
    UserId: str
    BusinessUnitId: str


class _Envelope(msgspec.Struct):
    value: msgspec.Raw
    next_link: str | None = msgspec.field(default=None, name="@odata.nextLink")
    delta_link: str | None = msgspec.field(default=None, name="@odata.deltaLink")


@dataclass(frozen=True)
class _Answer:
    requested_at: datetime
    received_at: datetime
    body: bytes


class DataverseClient:
    """A session with one organisation. Not for use by several threads at once.

    Args:
        organization_url: for example `https://contoso.crm.dynamics.com`.
        auth: puts the bearer token on a request.
        ca_bundle: PEM file of the authorities to trust; None: those of the environment or of `certifi`.
        timeout_seconds: longest silence of the service within one request.
        retry_budget_seconds: longest time to keep trying one request.
        user_agent: sent with every request.
        sleep: waits that many seconds.

    Raises:
        ConfigurationError: the URL is not that of an organisation.
    """

    def __init__(
        self,
        organization_url: str,
        auth: AuthBase,
        *,
        ca_bundle: str | None = None,
        timeout_seconds: float = 120,
        retry_budget_seconds: float = 900,
        user_agent: str = f"opportunity-sync/{__version__}",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.organization_url = _checked_url(organization_url)
        self._auth, self._ca_bundle, self._timeout = auth, ca_bundle, timeout_seconds
        self._budget, self._sleep = retry_budget_seconds, sleep
        self._dop_hint: int | None = None
        self._session = requests.Session()
        self._session.mount("https://", ExactAdapter())
        self._session.mount("http://", ExactAdapter())
        # The affinity cookie would tie all requests to one web server and to that server's throttling.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._session.headers.update(
            {
                "Accept": "application/json",
                "OData-MaxVersion": "4.0",
                "OData-Version": "4.0",
                "If-None-Match": "null",
                "User-Agent": user_agent,
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    @property
    def dop_hint(self) -> int | None:
        """How many requests at once the service suggested in its last answer that said so (`x-ms-dop-hint`)."""
        return self._dop_hint

    def who_am_i(self) -> WhoAmI:
        """Ask who the caller is.

        Raises:
            DataverseError: no token, not a member of the organisation, or no usable answer.
        """
        who = self.get_json("WhoAmI", _Who)
        return WhoAmI(who.OrganizationId.lower(), who.UserId.lower(), who.BusinessUnitId.lower())

    def get_json(self, path: str, kind: type[T]) -> T:
        """Read one JSON document, such as table metadata.

        Args:
            path: below `/api/data/v9.2/`, with its query already percent-encoded.
            kind: type to decode it as.

        Raises:
            DataverseError: refused, or no usable answer.
        """
        document, _ = self._get(path, {"Consistency": "Strong"}, lambda body: msgspec.json.decode(body, type=kind))
        return document

    def pages(
        self, path: str, *, page_size: int, annotations: tuple[str, ...] = (), track_changes: bool = False
    ) -> Iterator[Page]:
        """Read a query page by page.

        Args:
            path: a query below `/api/data/v9.2/`, or a link of an earlier page, from `/` on.
            page_size: rows per page, at most 5000.
            annotations: names of the annotations to include.
            track_changes: ask for a delta link on the last page, and insist on it.

        Raises:
            ProtocolError: an answer without rows, a link to another host or to itself, a missing delta link.
            DataverseError: refused, or no usable answer.
        """
        preferences = [f"odata.maxpagesize={page_size}"]
        if annotations:
            preferences.append(f'odata.include-annotations="{",".join(annotations)}"')
        if track_changes:
            preferences.append("odata.track-changes")
        headers = {"Prefer": ",".join(preferences)}
        link: str | None = path
        number = 0
        while link is not None:
            number += 1
            envelope, answer = self._get(link, headers, _decode_page)
            page = Page(
                number=number,
                requested_at=answer.requested_at,
                received_at=answer.received_at,
                rows=envelope.value,
                next_link=self._own_link(envelope.next_link),
                delta_link=self._own_link(envelope.delta_link),
            )
            if page.next_link == link:
                raise _protocol_error(f"Page {number} of {_without_query(path)} links to itself as next page")
            if track_changes and page.next_link is None and page.delta_link is None:
                raise _protocol_error(
                    f"Page {number} of {_without_query(path)} has neither a next nor a delta link, so it may not be "
                    f"the last one"
                )
            yield page
            link = page.next_link

    def _get(self, path: str, headers: dict[str, str], decode: Callable[[bytes], T]) -> tuple[T, _Answer]:
        """Send a GET until it succeeds, and decode its body."""
        url = self.organization_url + (path if path.startswith("/") else API + path)

        def attempt() -> tuple[T, _Answer]:
            answer = self._send(url, headers)
            try:
                return decode(answer.body), answer
            except (msgspec.MsgspecError, UnicodeDecodeError):
                kind = "HTML" if answer.body.lstrip()[:1] == b"<" else "something that is not the promised JSON"
                raise _protocol_error(
                    f"Dataverse answered 200 with {kind} to {_without_query(path)}", transient=True
                ) from None

        return with_retries(attempt, budget_seconds=self._budget, sleep=self._sleep)

    def _send(self, url: str, headers: dict[str, str]) -> _Answer:
        """Send one GET.

        The URL is set after preparing, so that neither `requests` nor `urllib3` re-encodes it; only what cannot stand
        in a request line (spaces, control and non-ASCII characters) is percent-encoded.
        """
        request = self._session.prepare_request(
            requests.Request("GET", self.organization_url, headers, auth=self._auth)
        )
        request.url = quote(url, safe=_PRINTABLE)
        settings = self._session.merge_environment_settings(self.organization_url, {}, True, self._ca_bundle, None)
        timeouts = (min(self._timeout, LONGEST_CONNECT_SECONDS), self._timeout)
        requested_at = datetime.now(UTC)
        try:
            with self._session.send(request, timeout=timeouts, allow_redirects=False, **settings) as response:
                body = _read(response, url)
        except requests.RequestException as error:
            raise connection_error(error, self.organization_url) from None
        received_at = datetime.now(UTC)
        hint = response.headers.get("x-ms-dop-hint", "").strip()
        if hint.isascii() and hint.isdigit() and int(hint) > 0:
            self._dop_hint = int(hint)
        if response.status_code != 200:
            raise error_from_response(response.status_code, response.headers, body, path=_without_query(url))
        return _Answer(requested_at, received_at, body)

    def _own_link(self, link: str | None) -> str | None:
        """Path and query of a link, unchanged; only this organisation ever gets our token."""
        if link is None or (link.startswith("/") and not link.startswith("//")):
            return link
        parts, own = urlsplit(link), urlsplit(self.organization_url)
        if (parts.scheme.lower(), parts.netloc.lower()) != (own.scheme, own.netloc):
            raise _protocol_error(f"Dataverse sent a link to another host ({parts.scheme}://{parts.hostname})")
        return link[len(parts.scheme) + len("://") + len(parts.netloc) :]


def _decode_page(body: bytes) -> _Envelope:
    envelope = msgspec.json.decode(body, type=_Envelope)
    if bytes(memoryview(envelope.value)[:1]) != b"[":
        raise msgspec.DecodeError("value is not an array")
    return envelope


def _read(response: requests.Response, url: str) -> bytes:
    chunks, size = [], 0
    for chunk in response.iter_content(_CHUNK_BYTES):
        chunks.append(chunk)
        size += len(chunk)
        if size > LARGEST_ANSWER_BYTES:
            raise ProtocolError(
                f"The answer to {_without_query(url)} is larger than {LARGEST_ANSWER_BYTES // 1024**2} MB",
                action="Lower OPPORTUNITY_SYNC_PAGE_SIZE",
            )
    return b"".join(chunks)


def _checked_url(url: str) -> str:
    parts = urlsplit(url.rstrip("/"))
    is_loopback = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not parts.hostname or parts.path or parts.query or not (parts.scheme == "https" or is_loopback):
        raise ConfigurationError(
            f"{parts.scheme}://{parts.hostname}{parts.path} is not the URL of an organisation",
            state="Nothing was read",
            action="Set the connection's host to the URL alone, for example https://contoso.crm.dynamics.com",
        )
    return f"{parts.scheme}://{parts.netloc}".lower()


def _protocol_error(what: str, *, transient: bool = False) -> ProtocolError:
    return ProtocolError(
        what, action="Run again; if it happens again, report it to the operator of the service", transient=transient
    )


def _without_query(url: str) -> str:
    """What may be shown of a URL: its query can hold a paging cookie or delta token."""
    return urlsplit(url).path.removeprefix(API)
