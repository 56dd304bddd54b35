"""A receiver of OpenLineage events on loopback, over HTTP, and a check that they are what the client's classes say.

What a receiver does with an event, a test may decide: answer, refuse, drop the connection, or never answer.
"""

from __future__ import annotations

import json
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

Event = Mapping[str, Any]
Answer = Literal["take", "refuse", "drop", "hang"]


@dataclass
class Receiver:
    """What has arrived so far."""

    url: str
    events: list[dict[str, Any]] = field(default_factory=list)
    """Those that were taken, in order of arrival."""
    requests: int = 0

    def of(self, kind: str, job: str) -> list[dict[str, Any]]:
        """The events of one kind (START, COMPLETE, FAIL) of one job."""
        return [event for event in self.events if event["eventType"] == kind and event["job"]["name"] == job]


@contextmanager
def receiving(answer: Callable[[Event], Answer] = lambda event: "take") -> Iterator[Receiver]:
    """A receiver that listens as long as the block."""
    ended, lock = threading.Event(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                receiver.requests += 1
                chosen = answer(event)
                if chosen == "take":
                    receiver.events.append(event)
            if chosen == "hang":
                ended.wait(60)
            if chosen in ("hang", "drop"):
                self.close_connection = True
                return
            self.send_response(201 if chosen == "take" else 500)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            """Stay quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    receiver = Receiver(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield receiver
    finally:
        ended.set()
        server.shutdown()
        thread.join()
        server.server_close()


def check(event: Event) -> None:
    """Check that an event has exactly the fields, of exactly the types, that openlineage-python's classes have.

    Raises:
        AssertionError: a field is unknown, missing or of another type; says which.
    """
    from openlineage.client.event_v2 import RunEvent

    _check_as(RunEvent, event, "event", {"eventTime", "eventType", "producer", "schemaURL"})


def _check_as(cls: type, document: Any, where: str, more: set[str]) -> None:
    import attrs

    assert isinstance(document, dict), where
    hints = get_type_hints(cls)
    fields = {each.name: each for each in attrs.fields(cls)}
    unknown = document.keys() - fields.keys() - more
    assert not unknown, f"{where}: unknown fields {unknown}"
    missing = {name for name, each in fields.items() if each.default is attrs.NOTHING} - document.keys()
    assert not missing, f"{where}: missing fields {missing}"
    for name, value in document.items():
        if name in hints:
            _check_value(hints[name], value, f"{where}.{name}")


def _check_value(hint: Any, value: Any, where: str) -> None:
    import attrs

    origin, arguments = get_origin(hint), get_args(hint)
    if where.rpartition(".")[2].lower().endswith("facets"):
        for name, facet in value.items():
            _check_facet(facet, f"{where}.{name}")
    elif origin in (Union, types.UnionType):
        if value is not None:
            (wanted,) = (each for each in arguments if each is not type(None))
            _check_value(wanted, value, where)
    elif origin is list:
        assert isinstance(value, list), where
        for each in value:
            _check_value(arguments[0], each, f"{where}[]")
    elif origin is dict:
        assert isinstance(value, dict), where
        for key, each in value.items():
            _check_value(arguments[1], each, f"{where}[{key}]")
    elif isinstance(hint, type) and attrs.has(hint):
        _check_as(hint, value, where, set())
    elif isinstance(hint, type) and hint in (str, int, bool, float):
        assert isinstance(value, hint) or (hint is float and isinstance(value, int)), f"{where}: {value!r}"


def _check_facet(facet: Any, where: str) -> None:
    from openlineage.client import facet_v2
    from openlineage.client.generated import base

    assert facet["_producer"].startswith("https://"), where
    classes = {
        cls._get_schema(): cls
        for module in vars(facet_v2).values()
        if isinstance(module, types.ModuleType)
        for cls in vars(module).values()
        if isinstance(cls, type) and issubclass(cls, base.BaseFacet)
    }
    if facet["_schemaURL"].endswith("/OpenLineage.json#/$defs/RunFacet"):
        return  # the provider's own: any fields
    assert facet["_schemaURL"] in classes, where
    _check_as(classes[facet["_schemaURL"]], facet, where, {"_producer", "_schemaURL", "_deleted"})
