"""`opportunity-sync marketo`: what Marketo holds of the live release, what would be sent, and a lost ledger.

Marketo is reached by the Airflow connection `marketo_default`, for example from AIRFLOW_CONN_MARKETO_DEFAULT.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from opportunity_sync.errors import ConfigurationError
from opportunity_sync.settings import load_settings

if TYPE_CHECKING:
    from opportunity_sync.marketo.client import MarketoClient
    from opportunity_sync.marketo_load.plan import Counts
    from opportunity_sync.settings import Settings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]

app = typer.Typer(
    name="marketo",
    help="What Marketo holds of the live release, and what is to be sent.",
    no_args_is_help=True,
)


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show per object what is confirmed, to create, to update, to delete, parked and rejected; changes nothing."""
    from opportunity_sync.marketo_load import open_session

    settings = load_settings()
    with _client(settings) as client, open_session(client, settings) as session:
        planned = session.make_plan(session.probe())
        found = {
            "instance": client.base_url,
            "release_id": session.release_id,
            "loaded_release": session.ledger.loaded_release(),
            "calls_today": client.usage_today(),
            "objects": {name: asdict(counts) for name, counts in planned.items()},
        }
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    typer.echo(f"instance       {found['instance']}, {found['calls_today']} calls today by all its integrations")
    typer.echo(f"live release   {found['release_id']}; last loaded to the end: {found['loaded_release'] or 'none yet'}")
    _show(planned)


@app.command("dry-run")
def dry_run(as_json: AsJson = False) -> None:
    """Look up leads and write every intended call as Parquet; send nothing."""
    from opportunity_sync.marketo_load import dry_run as plan

    settings = load_settings()
    with _client(settings) as client:
        done = plan(client, settings)
    if as_json:
        objects = {name: asdict(counts) for name, counts in done.planned.items()}
        typer.echo(json.dumps({"release_id": done.release_id, "plan": str(done.plan), "objects": objects}, indent=2))
        return
    _show(done.planned)
    typer.echo(f"every intended call: {done.plan}")


@app.command("rebuild-ledger")
def rebuild_ledger() -> None:
    """Ask Marketo which known records it holds, after the ledger was lost; the next run sends all of them once more."""
    from opportunity_sync.marketo_load import open_session
    from opportunity_sync.marketo_load.rebuild import rebuild_ledger as rebuild

    settings = load_settings()
    with _client(settings) as client, open_session(client, settings) as session:
        for name, records in rebuild(session).items():
            typer.echo(f"{name}: Marketo holds {records}")


@contextmanager
def _client(settings: Settings) -> Iterator[MarketoClient]:
    from opportunity_sync.marketo.hook import MarketoHook

    hook = MarketoHook()
    if not hook.is_configured():
        raise ConfigurationError(
            f"There is no Airflow connection {hook.marketo_conn_id}",
            state="Nothing was asked of Marketo",
            action="Create the connection, or set AIRFLOW_CONN_MARKETO_DEFAULT; its fields are described in "
            "plugins/opportunity_sync/marketo/hook.py",
        )
    with hook.client(settings) as client, _apart_from_airflow():
        yield client


@contextmanager
def _apart_from_airflow() -> Iterator[None]:
    """Keep our messages from Airflow's own log handler, which prints to stdout, where only the answer belongs."""
    log = logging.getLogger("opportunity_sync")
    before, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.propagate = before


def _show(planned: Mapping[str, Counts]) -> None:
    for name, counts in planned.items():
        typer.echo(
            f"{name}: {counts.confirmed} confirmed, {counts.create} to create, {counts.update} to update, "
            f"{counts.delete} to delete, {counts.cut} of them cut"
        )
        for word, reasons in (("parked", counts.parked), ("rejected, code", counts.rejected)):
            for reason, records in reasons.items():
                typer.echo(f"  {word} {reason}: {records}")
