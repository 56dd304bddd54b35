"""One call to an instance: within its limits, with its token, repeated while it fails for the moment.

Marketo says with HTTP 200 and a code that it refused a call: https://experienceleague.adobe.com/en/docs/marketo-developer/marketo/rest/error-codes
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.cookiejar import DefaultCookiePolicy
from typing import TypeVar

import msgspec
import requests

from opportunity_sync import __version__
from opportunity_sync.backoff import with_retries
from opportunity_sync.marketo.auth import Bearer, Credentials, MarketoAuth
from opportunity_sync.marketo.errors import (
    TOKEN_CODES,
    MarketoError,
    MarketoServiceError,
    connection_error,
    error_from_code,
    protocol_error,
)
from opportunity_sync.marketo.limits import DAILY_CALLS, CallLimits, DailyBudget, limits_of
from opportunity_sync.marketo.objects import Reason

T = TypeVar("T")

log = logging.getLogger(__name__)

WRITE_SECONDS = 60.0
READ_SECONDS = 30.0
"""Longest silence within one call; after as much Marketo itself gives up."""
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
API = "/rest/v1/"


class Answer(msgspec.Struct, rename="camel"):
    """What every answer has around its results."""

    success: bool
    request_id: str = ""
    errors: list[Reason] = []
    result: msgspec.Raw = msgspec.Raw(b"[]")
    next_page_token: str | None = None
    more_result: bool | None = None

    @property
    def code(self) -> int | None:
        """The code of a call that was refused."""
        return self.errors[0].number() if self.errors and not self.success else None

    def results(self, kind: type[T], what: str) -> T:
        """The results, decoded.

        Raises:
            MarketoProtocolError: they are not of that kind.
        """
        try:
            return msgspec.json.decode(self.result, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise protocol_error(f"Marketo's answer when {what} is not what the API promises") from None


@dataclass(frozen=True)
class Call:
    """What is sent, whatever the token."""

    method: str
    path: str
    """Below `/rest/v1/`, without `.json`."""
    permission: str
    """What the API user needs for it, for the message when it is missing."""
    query: str = ""
    """From `?` on; holds nothing that must not be logged."""
    body: bytes | None = None
    content_type: str = JSON
    writes: bool = False
    """Such calls may take longer."""

    def __str__(self) -> str:
        return f"{self.method} {self.path}{self.query}"


class Transport:
    """Connections to one instance, for several threads at once.

    Args:
        credentials: of the instance.
        limits: None: the default ones of the instance.
        daily_calls: calls of all integrations in a day after which no more are made.
        retry_budget_seconds: longest time to keep trying one call.
        write_seconds: longest silence within a call that writes.
        read_seconds: longest silence within any other call.
        sleep: waits that many seconds.
        now: the time, with its zone.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        limits: CallLimits | None = None,
        daily_calls: int = DAILY_CALLS,
        retry_budget_seconds: float = 900,
        write_seconds: float = WRITE_SECONDS,
        read_seconds: float = READ_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.base_url = credentials.base_url
        self._auth = MarketoAuth(credentials, timeout_seconds=read_seconds)
        self._ca_bundle, self._limits = credentials.ca_bundle, limits or limits_of(self.base_url)
        self._budget = DailyBudget(daily_calls, self._read_usage, now=now)
        self._retry_budget, self._sleep = retry_budget_seconds, sleep
        self._write_seconds, self._read_seconds = write_seconds, read_seconds
        self._idle: queue.LifoQueue[requests.Session] = queue.LifoQueue()
        self._counting = threading.Lock()
        self.calls_made = 0
        """Calls sent that count towards the limits: repeated ones too, those for tokens not."""

    def close(self) -> None:
        """Close the connections; no thread may be calling."""
        while not self._idle.empty():
            self._idle.get_nowait().close()

    def call(self, call: Call) -> Answer:
        """Call until it succeeds or fails for good.

        Raises:
            QuotaUsedUpError: also when it was not sent, because the calls of the day are used up.
            MarketoError: refused, or no usable answer.
        """

        def attempt() -> Answer:
            self._budget.spend()
            return self._ask(call)

        return self._repeat(attempt)

    def usage_today(self) -> int:
        """Ask how many calls all integrations of the instance have made today (US Central).

        Raises:
            MarketoError: refused, or no usable answer.
        """
        return self._repeat(self._read_usage)

    def _read_usage(self) -> int:
        answer = self._ask(Call("GET", "stats/usage", permission="Access API"))
        return sum(each.total for each in answer.results(list[_Usage], "reading the usage"))

    def _repeat(self, attempt: Callable[[], T]) -> T:
        return with_retries(attempt, budget_seconds=self._retry_budget, sleep=self._sleep)

    def _ask(self, call: Call) -> Answer:
        """Call once, or twice when the token was refused; a refusal is raised."""
        token = self._auth.token()
        answer = self._send(call, token)
        if answer.code in TOKEN_CODES:
            log.info("Marketo refused the token (%s); asking for another", answer.code)
            self._auth.discard(token)
            answer = self._send(call, self._auth.token())
        if not answer.success:
            raise _refusal(answer, call)
        return answer

    def _send(self, call: Call, token: str) -> Answer:
        """Send it once; an HTTP status other than 200 becomes the code of the answer."""
        try:
            with self._limits.call(), self._session() as session:
                with self._counting:
                    self.calls_made += 1
                response = session.request(
                    call.method,
                    f"{self.base_url}{API}{call.path}.json{call.query}",
                    data=call.body,
                    headers={} if call.body is None else {"Content-Type": call.content_type},
                    auth=Bearer(token),
                    timeout=self._write_seconds if call.writes else self._read_seconds,
                    verify=self._ca_bundle,
                    allow_redirects=False,
                )
        except requests.RequestException as error:
            raise connection_error(error, self.base_url) from None
        if response.status_code != 200:
            status = TOKEN_CODES[0] if response.status_code == 401 else response.status_code
            return Answer(success=False, errors=[Reason(status)])
        try:
            return msgspec.json.decode(response.content, type=Answer)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            kind = "HTML" if response.content.lstrip()[:1] == b"<" else "something that is not the promised JSON"
            raise MarketoServiceError(
                f"Marketo answered 200 with {kind} to {call}",
                action="Run again; if it stays, look at what stands between Airflow and Marketo",
            ) from None

    @contextmanager
    def _session(self) -> Iterator[requests.Session]:
        """Connections that no other thread is using."""
        try:
            session = self._idle.get_nowait()
        except queue.Empty:
            session = requests.Session()
            session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
            session.headers.update({"Accept": JSON, "User-Agent": f"opportunity-sync/{__version__}"})
        try:
            yield session
        finally:
            self._idle.put(session)


class _Usage(msgspec.Struct):
    total: int = 0


def _refusal(answer: Answer, call: Call) -> MarketoError:
    if answer.code is None:
        return protocol_error(f"Marketo refused {call} without a code")
    message, request_id = answer.errors[0].message, answer.request_id
    return error_from_code(answer.code, message, asked=str(call), permission=call.permission, request_id=request_id)
