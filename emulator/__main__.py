"""Command line: `python -m emulator --data DIR --port N` and `python -m emulator generate DIR ...`."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from .faults import read_rules
from .query import MAX_PAGE


def _serve(arguments: argparse.Namespace) -> int:
    from .listener import listen
    from .server import open_server

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="dataverse-stand-in-") as temporary:
        state = Path(arguments.state or temporary)
        server, certificates = open_server(
            Path(arguments.data),
            state,
            Path(arguments.tls) if arguments.tls else state / "tls",
            page_size=arguments.page_size,
            latency_ms=arguments.latency_ms,
            faults=read_rules(Path(arguments.faults)) if arguments.faults else [],
            token_lifetime=arguments.token_lifetime,
            dop_hint=arguments.dop_hint or None,
        )
        listener = listen(server, certificates, arguments.port)
        listener.on_ready = lambda: print(f"ready {server.base} ca={certificates.ca_bundle}", flush=True)  # noqa: T201
        try:
            listener.serve_until_stopped()
        finally:
            server.org.store.close()
    return 0


def _generate(arguments: argparse.Namespace) -> int:
    from .generate import generate

    generate(Path(arguments.directory), opportunities=arguments.opportunities, seed=arguments.seed)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python -m emulator", description="A stand-in for Dynamics 365.")
    if words[:1] == ["generate"]:
        parser.add_argument("command")
        parser.add_argument("directory", help="where the JSON files go")
        parser.add_argument("--opportunities", type=int, required=True)
        parser.add_argument("--seed", type=int, default=1)
        return _generate(parser.parse_args(words))
    parser.add_argument("--data", required=True, help="folder with one JSON array per entity set")
    parser.add_argument("--port", type=int, required=True, help="loopback port, 0 picks a free one")
    parser.add_argument("--state", help="folder the organisation lives on in; without it, it is forgotten at the end")
    parser.add_argument("--latency-ms", type=float, default=0, help="added to every Web API request")
    parser.add_argument("--page-size", type=int, default=MAX_PAGE, help="rows per page at most")
    parser.add_argument("--faults", help="rule file, YAML or JSON (see emulator/README.md)")
    parser.add_argument("--token-lifetime", type=int, default=3600, help="seconds an access token lives")
    parser.add_argument("--dop-hint", type=int, default=4, help="requests at once that x-ms-dop-hint suggests, 0: none")
    parser.add_argument("--tls", help="folder of the certificates, default inside the state folder")
    return _serve(parser.parse_args(words))


if __name__ == "__main__":
    sys.exit(main())
