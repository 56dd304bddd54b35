"""A page server: just enough of Entra and Dataverse to extract one table at the speed of sending files over TLS.

Run as `python -m benchmarks.server PAGES --tls DIR --rows N`; prints `ready https://localhost:PORT` on stdout.
Pages are kept in memory and sent as they are. When more rows are asked for than were rendered, the pages come round
again with other keys (`pages.KEY_PREFIX`), so that a table of any size fits into a few hundred MB.
"""

from __future__ import annotations

import argparse
import json
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

from benchmarks.metadata import entity_definitions
from benchmarks.organization import ORGANIZATION_ID
from benchmarks.pages import KEY_PREFIX, PAGE_SIZE
from benchmarks.process import PROJECT, MeasurementError, environment

TENANT = "bench"
CLIENT_ID = "00000000-0000-0000-0000-0000000000b0"
CLIENT_SECRET = "not-a-secret"  # noqa: S105  the server accepts any
API = "/api/data/v9.2/"


@dataclass(frozen=True)
class Server:
    """A running page server."""

    url: str
    ca_bundle: str

    @property
    def authority(self) -> str:
        """Authority for MSAL."""
        return f"{self.url}/{TENANT}"


@contextmanager
def serving(pages: Path, tls: Path, rows: int) -> Iterator[Server]:
    """Run the server in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.server", str(pages), "--tls", str(tls), "--rows", str(rows)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT, env=environment()) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line.startswith("ready "):
                raise MeasurementError("The page server did not start; its message is above")
            yield Server(line.split()[1], str(tls / "ca.pem"))
        finally:
            process.terminate()


class PageServer(ThreadingHTTPServer):
    """Holds the rendered pages."""

    daemon_threads = True

    def __init__(self, pages: list[bytes], rows: int, context: ssl.SSLContext) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages = pages
        self.count = -(-rows // PAGE_SIZE)
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"https://localhost:{self.server_port}"

    def body(self, number: int) -> bytes:
        """Page `number` (from 1), open at its end."""
        turn, index = divmod(number - 1, len(self.pages))
        return self.pages[index].replace(KEY_PREFIX, b"c%07d" % turn) if turn else self.pages[index]


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server: PageServer
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer a read."""
        path, _, query = self.path.partition("?")
        path = unquote(path)
        if path.endswith("/.well-known/openid-configuration"):
            return self._send_json(_openid_configuration(self.server.url))
        if not path.startswith(API):
            return self._send_json({"error": {"code": "404", "message": "not served"}}, 404)
        path = path.removeprefix(API)
        if path == "opportunities":
            return self._send_page(query)
        if path == "WhoAmI":
            return self._send_json(dict.fromkeys(("BusinessUnitId", "UserId", "OrganizationId"), ORGANIZATION_ID))
        answer = entity_definitions(path)
        if answer is None:
            return self._send_json({"error": {"code": "0x80060888", "message": f"no resource {path}"}}, 404)
        return self._send_json(answer)

    def do_POST(self) -> None:
        """Give a token to whoever asks."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._send_json({"token_type": "Bearer", "expires_in": 3599, "access_token": "benchmark"})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""

    def _send_page(self, query: str) -> None:
        token = re.search(r"pagenumber=%22(\d+)%22", query)
        number = int(token[1]) if token else 1
        select = query.split("&", 1)[0]
        link = f"{self.server.url}{API}opportunities?{select}"
        tail = b"}"
        if number < self.server.count:
            cookie = quote(f'<cookie pagenumber="{number + 1}" pagingcookie="%3ccookie%3e" />', safe="=/")
            tail = b',"@odata.nextLink":' + json.dumps(f"{link}&$skiptoken={cookie}").encode() + b"}"
        elif "odata.track-changes" in self.headers.get("Prefer", ""):
            delta = quote("919042!11/22/2026 06:00:00", safe="")
            tail = b',"@odata.deltaLink":' + json.dumps(f"{link}&$deltatoken={delta}").encode() + b"}"
        body = self.server.body(number)
        self._start(200, len(body) + len(tail))
        self.wfile.write(body)
        self.wfile.write(tail)

    def _send_json(self, answer: object, status: int = 200) -> None:
        body = json.dumps(answer).encode()
        self._start(status, len(body))
        self.wfile.write(body)

    def _start(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json; odata.metadata=minimal")
        self.send_header("Content-Length", str(length))
        self.send_header("OData-Version", "4.0")
        if prefer := self.headers.get("Prefer"):
            self.send_header("Preference-Applied", prefer)
        self.end_headers()


def _openid_configuration(url: str) -> dict[str, str]:
    return {
        "issuer": f"{url}/{TENANT}/v2.0",
        "token_endpoint": f"{url}/{TENANT}/oauth2/v2.0/token",
        "authorization_endpoint": f"{url}/{TENANT}/oauth2/v2.0/authorize",
        "device_authorization_endpoint": f"{url}/{TENANT}/oauth2/v2.0/devicecode",
        "jwks_uri": f"{url}/{TENANT}/discovery/v2.0/keys",
    }


def _tls_context(folder: Path) -> ssl.SSLContext:
    import trustme

    folder.mkdir(parents=True, exist_ok=True)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


def main() -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser()
    parser.add_argument("pages", type=Path)
    parser.add_argument("--tls", type=Path, required=True)
    parser.add_argument("--rows", type=int, required=True)
    arguments = parser.parse_args()
    pages = [path.read_bytes() for path in sorted(arguments.pages.glob("page-*.json"))]
    server = PageServer(pages, arguments.rows, _tls_context(arguments.tls))
    print(f"ready {server.url}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
