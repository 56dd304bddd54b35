"""Command line: `python -m emulator.marketo --port N ...`."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from .faults import read_rules
from .instance import CONTACT_FIELD


def _serve(arguments: argparse.Namespace) -> int:
    from .server import listen, open_server

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory(prefix="marketo-stand-in-") as temporary:
        state = Path(arguments.state) if arguments.state else None
        server, certificates = open_server(
            Path(arguments.tls) if arguments.tls else (state or Path(temporary)) / "tls",
            state_dir=state,
            leads=Path(arguments.leads) if arguments.leads else None,
            contacts=Path(arguments.contacts) if arguments.contacts else None,
            contact_field=arguments.contact_field,
            latency_ms=arguments.latency_ms,
            faults=read_rules(Path(arguments.faults)) if arguments.faults else [],
            token_lifetime=arguments.token_lifetime,
            limits={
                "calls_per_window": arguments.calls_per_window,
                "concurrent_calls": arguments.concurrent_calls,
                "daily_quota": arguments.daily_quota,
            },
            native_crm_sync=arguments.native_crm_sync,
        )
        listener = listen(server, certificates, arguments.port)
        listener.on_ready = lambda: print(f"ready {server.base} ca={certificates.ca_bundle}", flush=True)  # noqa: T201
        try:
            listener.serve_until_stopped()
        finally:
            server.instance.close()
    return 0


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m emulator.marketo", description="A stand-in for Marketo.")
    parser.add_argument("--port", type=int, required=True, help="loopback port, 0 picks a free one")
    seed = parser.add_mutually_exclusive_group()
    seed.add_argument("--leads", help="JSON array of leads a new instance begins with")
    seed.add_argument("--contacts", help="contacts.json of a Dynamics seed to make leads of")
    parser.add_argument("--contact-field", default=CONTACT_FIELD, help="the leads' custom field with the contact's id")
    parser.add_argument("--state", help="folder the instance lives on in; without it, it is forgotten at the end")
    parser.add_argument("--latency-ms", type=float, default=0, help="added to every REST call")
    parser.add_argument("--faults", help="rule file, YAML or JSON (see emulator/README.md)")
    parser.add_argument("--token-lifetime", type=int, default=3600, help="seconds an access token lives")
    parser.add_argument("--calls-per-window", type=int, default=100, help="calls allowed in any 20 s")
    parser.add_argument("--concurrent-calls", type=int, default=10, help="calls allowed at the same time")
    parser.add_argument("--daily-quota", type=int, default=50_000, help="calls allowed per day")
    parser.add_argument("--native-crm-sync", action="store_true", help="as an instance with native CRM sync on")
    parser.add_argument("--tls", help="folder of the certificates, default inside the state folder")
    return _serve(parser.parse_args(sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    sys.exit(main())
