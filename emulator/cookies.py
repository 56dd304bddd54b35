"""Opaque link tokens: paging cookies and change-tracking tokens, in the form Dataverse gives them.

A paging cookie is XML inside XML, percent-encoded twice with its own choice of unreserved signs. A client that decodes
and re-encodes the link sends other bytes; those are refused, so that following links verbatim is put to the test.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from .errors import bad_query, version_stamp_expired

_OUTER = re.compile(
    r'^<cookie pagenumber="(\d+)" pagingcookie="([^"]*)" '
    r'istracking="(True|False)"(?: token="([^"]*)")? />$'
)
_INNER = re.compile(r'^<cookie page="\d+"><(\w+) last="\{([^}]*)\}" first="\{([^}]*)\}" /></cookie>$')
_TOKEN = re.compile(r"^(\d+)!(\d\d/\d\d/\d{4} \d\d:\d\d:\d\d)$")
_TIME = "%m/%d/%Y %H:%M:%S"


@dataclass(frozen=True)
class Cookie:
    """Where the next page starts.

    Attributes:
        page: Number of the page the cookie leads to.
        kind: What `last` is: the primary key's name, `offset`, `upserts` or `deletes`.
        last: Last position of the page before.
        first: First position of the page before.
        token: For tracked reads: text of the delta token the last page will give.
    """

    page: int
    kind: str
    last: str
    first: str = ""
    token: str = ""


def _lower_quote(text: str) -> str:
    return re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), quote(text, safe=""))


def write_cookie(cookie: Cookie) -> str:
    """The value of `$skiptoken`, ready to stand in a URL."""
    ends = f'last="{{{cookie.last}}}" first="{{{cookie.first}}}"'
    inner = f'<cookie page="{cookie.page - 1}"><{cookie.kind} {ends} /></cookie>'
    token = f' token="{_lower_quote(cookie.token)}"' if cookie.token else ""
    outer = (
        f'<cookie pagenumber="{cookie.page}" pagingcookie="{_lower_quote(inner)}" '
        f'istracking="{bool(cookie.token)}"{token} />'
    )
    return quote(outer, safe="=/")


def read_cookie(raw: str) -> Cookie:
    """Read a `$skiptoken` exactly as it stood in the URL.

    Raises:
        ApiError: 400 when it is not, byte for byte, a cookie this server wrote.
    """
    outer = _OUTER.match(unquote(raw))
    inner = _INNER.match(unquote(outer[2])) if outer else None
    if outer is None or inner is None:
        raise bad_query("Malformed XML in the Paging Cookie")
    cookie = Cookie(int(outer[1]), inner[1], inner[2], inner[3], unquote(outer[4] or ""))
    if write_cookie(cookie) != raw:
        raise bad_query("Malformed XML in the Paging Cookie")
    return cookie


@dataclass(frozen=True)
class DeltaToken:
    """A position in the organisation's changes: version counter and the time it was given out."""

    version: int
    issued: datetime

    def text(self) -> str:
        """As it stands inside a cookie: `919042!08/22/2017 08:10:44`."""
        return f"{self.version}!{self.issued.strftime(_TIME)}"

    def quoted(self) -> str:
        """As it stands in a delta link."""
        return _lower_quote(self.text())


def read_token(text: str) -> DeltaToken:
    """Read a token's (decoded) text.

    Raises:
        ApiError: 400, as for an expired one, when it is no token.
    """
    match = _TOKEN.match(unquote(text))
    if match is None:
        raise version_stamp_expired()
    try:
        issued = datetime.strptime(match[2], _TIME).replace(tzinfo=UTC)
    except ValueError as error:
        raise version_stamp_expired() from error
    return DeltaToken(int(match[1]), issued)
