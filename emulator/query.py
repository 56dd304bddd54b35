"""Reading a request: system query options, the Prefer header, the resource path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, unquote_plus

from .errors import bad_query, not_spoken

MAX_PAGE = 5000
_SPOKEN = {"$select", "$filter", "$orderby", "$top", "$count", "$skiptoken", "$deltatoken", "$expand"}
_UNSPOKEN: dict[str, str] = {
    "$apply": "$apply (aggregation)",
    "$search": "$search",
    "$format": "$format",
    "$compute": "$compute",
    "fetchXml": "FetchXML queries",
    "savedQuery": "saved queries",
    "userQuery": "user queries",
    "sql": "SQL queries",
}
_PREFERENCE = re.compile(r'([A-Za-z.\-]+)\s*(?:=\s*("[^"]*"|[^,;\s]*))?')
_PATH = re.compile(r"^(?P<name>[A-Za-z_$][\w.$]*)(?:\((?P<key>.*?)\))?(?:/(?P<rest>.*))?$")


@dataclass(frozen=True)
class Options:
    """System query options; `raw` keeps name and undecoded value as they came."""

    raw: tuple[tuple[str, str], ...]
    select: tuple[str, ...] | None = None
    filter: str | None = None
    orderby: str | None = None
    expand: str | None = None
    top: int | None = None
    count: bool = False
    skiptoken: str | None = None
    deltatoken: str | None = None

    def kept(self) -> str:
        """The query to repeat in a link: everything but the tokens, exactly as it came."""
        return "&".join(
            f"{name}={value}" for name, value in self.raw if unquote(name) not in ("$skiptoken", "$deltatoken")
        )


def parse_options(query_string: str) -> Options:
    """Parse the query part of a URL.

    Raises:
        ApiError: 400 for an option Dataverse refuses, 501 for one this stand-in does not speak.
    """
    raw = tuple((name, value) for name, _, value in (part.partition("=") for part in query_string.split("&") if part))
    values: dict[str, str] = {}
    for name, value in raw:
        option = unquote(name)
        if option in _UNSPOKEN:
            raise not_spoken(_UNSPOKEN[option])
        if option == "$skip":
            raise bad_query("Skip Clause is not supported in CRM")
        if option not in _SPOKEN:
            if option.startswith("$"):
                raise bad_query(f"The query parameter '{option}' is not supported.")
            continue
        if option in values:
            raise bad_query(
                f"Query option '{option}' was specified more than once, but it must be specified at most once."
            )
        values[option] = value if option in ("$skiptoken", "$deltatoken") else unquote_plus(value)
    top = values.get("$top")
    if top is not None and not (top.isdigit() and int(top) > 0):
        raise bad_query(f"Invalid value '{top}' for $top query option found. It requires a positive integer value.")
    if values.get("$count", "false") not in ("true", "false"):
        raise bad_query(f"Invalid value '{values['$count']}' for $count query option found.")
    select = values.get("$select")
    return Options(
        raw=raw,
        select=None
        if select is None or select.strip() == "*"
        else tuple(s.strip() for s in select.split(",") if s.strip()),
        filter=values.get("$filter"),
        orderby=values.get("$orderby"),
        expand=values.get("$expand"),
        top=int(top) if top else None,
        count=values.get("$count") == "true",
        skiptoken=values.get("$skiptoken"),
        deltatoken=values.get("$deltatoken"),
    )


@dataclass(frozen=True)
class Preferences:
    """What the Prefer header asks for."""

    max_page_size: int | None = None
    annotations: str | None = None
    track_changes: bool = False
    representation: bool = False

    def wants(self, annotation: str) -> bool:
        """Whether this annotation (without the leading `@`) was asked for."""
        for pattern in (self.annotations or "").split(","):
            name = pattern.strip()
            if name == "*" or name == annotation or (name.endswith("*") and annotation.startswith(name[:-1])):
                return True
        return False

    def applied(self) -> str:
        """Value of the Preference-Applied header; empty when nothing was asked for."""
        parts = []
        if self.max_page_size is not None:
            parts.append(f"odata.maxpagesize={self.max_page_size}")
        if self.annotations is not None:
            parts.append(f'odata.include-annotations="{self.annotations}"')
        if self.track_changes:
            parts.append("odata.track-changes")
        if self.representation:
            parts.append("return=representation")
        return ",".join(parts)


def parse_prefer(headers: list[str]) -> Preferences:
    """Parse all Prefer headers of a request; preferences not known are ignored, as the standard says."""
    size: int | None = None
    annotations: str | None = None
    track = representation = False
    for header in headers:
        for name, value in _PREFERENCE.findall(header):
            key, text = name.lower().removeprefix("odata."), value.strip('"')
            if key == "maxpagesize" and text.isdigit() and int(text) > 0:
                size = min(int(text), MAX_PAGE)
            elif key == "include-annotations":
                annotations = text
            elif key == "track-changes":
                track = True
            elif key == "return":
                representation = text == "representation"
    return Preferences(size, annotations, track, representation)


@dataclass(frozen=True)
class Resource:
    """A resource path below the service root: `name(key)/rest`."""

    name: str
    key: str | None
    rest: str | None


def parse_path(path: str) -> Resource:
    """Parse the (already percent-decoded) path below the service root.

    Raises:
        ApiError: 400 when it is no resource path.
    """
    match = _PATH.match(path)
    if match is None:
        raise bad_query(f"Error in the resource path '{path}'.")
    return Resource(match["name"], match["key"], match["rest"])
