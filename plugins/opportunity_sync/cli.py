"""The command line: look at releases, switch between them, rebuild them. `opportunity-sync --help` lists the commands.

The data root is the one of the environment variable OPPORTUNITY_SYNC_DATA, by default `data/` of the project.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from typer.core import TyperGroup

from opportunity_sync import __version__
from opportunity_sync.data_root import open_data_root, warehouse_lock
from opportunity_sync.errors import OpportunitySyncError
from opportunity_sync.marketo_cli import app as marketo
from opportunity_sync.release import DATABASE, Run
from opportunity_sync.settings import Settings, load_settings


class Commands(TyperGroup):
    """Prints the product's own errors as one message and exits with 1; any other error keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except OpportunitySyncError as error:
            typer.echo(f"opportunity-sync: {error}", err=True)
            raise typer.Exit(1) from None


class Progress(logging.Handler):
    """Writes log messages to stderr as they are."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        typer.echo(self.format(record), err=True)


app = typer.Typer(
    cls=Commands,
    name="opportunity-sync",
    help="Look at published releases, switch between them, rebuild them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.add_typer(marketo)

ReleaseId = Annotated[str, typer.Argument(help="A release id, as `opportunity-sync releases` lists them.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"opportunity-sync {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Show progress of the product itself, on stderr, and nothing of the libraries it uses."""
    log = logging.getLogger("opportunity_sync")
    log.setLevel(logging.INFO)
    if not any(isinstance(handler, Progress) for handler in log.handlers):
        log.addHandler(Progress())


@app.command()
def status(
    as_json: AsJson = False,
    max_age: Annotated[
        float | None,
        typer.Option(min=0, metavar="HOURS", help="Exit with 1 when a source table of the live release is older."),
    ] = None,
) -> None:
    """Show the live release, its rows, how fresh each source table is, and what validation found."""
    from opportunity_sync.status import staleness
    from opportunity_sync.status import status as collect

    found = collect(load_settings(), datetime.now(UTC))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        for line in _status_lines(found):
            typer.echo(line)
    if max_age is not None and (problem := staleness(found, timedelta(hours=max_age))):
        typer.echo(f"opportunity-sync: {problem} (--max-age {max_age:g})", err=True)
        raise typer.Exit(1)


@app.command()
def releases(as_json: AsJson = False) -> None:
    """List the releases on disk, newest first; the live one has a star."""
    from opportunity_sync.published import kept_releases, live_or_none

    root = open_data_root(load_settings().data)
    live = live_or_none(root)
    listed: list[dict[str, Any]] = [
        {
            "release_id": release.release_id,
            "is_live": live is not None and live.release_id == release.release_id,
            "run_id": release.run_id,
            "built": release.built,
            "expectations_passed": release.expectations_passed,
            "expectations_failed": release.expectations_failed,
            "rows": release.rows,
        }
        for release in kept_releases(root)
    ]
    if as_json:
        typer.echo(json.dumps(listed, indent=2))
        return
    if not listed:
        typer.echo(f"No release in {root.releases} yet")
    for each in listed:
        mark, warned = "*" if each["is_live"] else " ", each["expectations_failed"]
        counts = ", ".join(f"{table} {count}" for table, count in _main_tables(each["rows"]))
        typer.echo(f"{mark} {each['release_id']}  {counts}  ({warned} warnings, {each['built']}, {each['run_id']})")


@app.command()
def rollback(
    release_id: Annotated[
        str | None, typer.Argument(help="The release to switch to; by default the next older one.")
    ] = None,
) -> None:
    """Switch the live file to an older release."""
    from opportunity_sync import publish as stage

    release = stage.rollback(load_settings(), release_id)
    typer.echo(f"Live now: {release.release_id}")
    typer.echo("The next scheduled run publishes newer data again; pause the DAG opportunity_sync to prevent that.")


@app.command()
def rebuild() -> None:
    """Delete the private warehouse, derive everything from the raw batches again, validate and publish."""
    from opportunity_sync import publish as stage
    from opportunity_sync import validate, warehouse
    from opportunity_sync.export import export

    settings = load_settings()
    root = open_data_root(settings.data)
    now = datetime.now(UTC)
    with warehouse_lock(root):
        for path in (root.warehouse, root.warehouse.with_suffix(".duckdb.wal")):
            path.unlink(missing_ok=True)
    candidate = warehouse.transform(settings, Run(run_id=f"manual__rebuild_{now:%Y%m%dT%H%M%SZ}", started_at=now))
    validate.validate(settings, candidate.release_id)
    _announce(stage.publish(settings, candidate.release_id).release_id, candidate.release_id)
    export(settings, candidate.release_id)


@app.command()
def compact(as_json: AsJson = False) -> None:
    """Merge the raw batches of each table that are older than OPPORTUNITY_SYNC_RAW_DAYS; no release changes."""
    from opportunity_sync.compact import compact as merge

    done = merge(load_settings(), f"manual__compact_{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in done], indent=2))
        return
    for each in done:
        typer.echo(
            f"{each.table}: {each.batches_before} -> {each.batches_after} batches, "
            f"{each.bytes_before} -> {each.bytes_after} bytes"
        )


@app.command()
def check(as_json: AsJson = False) -> None:
    """Verify raw batches, warehouse and published files; changes nothing, and exits with 1 when something is wrong."""
    from opportunity_sync import check as checks

    findings = checks.check(load_settings())
    counts = {kind: sum(each.severity == kind for each in findings) for kind in ("error", "warning", "note")}
    if as_json:
        listed = [msgspec.to_builtins(each) for each in findings]
        typer.echo(json.dumps({"counts": counts, "findings": listed}, indent=2))
    else:
        for each in findings:
            typer.echo(f"{each.severity:<8} {each.where} {each.what}. {each.action}.")
        typer.echo(", ".join(f"{count} {kind}{'' if count == 1 else 's'}" for kind, count in counts.items()))
    if not checks.is_sound(findings):
        raise typer.Exit(1)


@app.command()
def publish(
    release_id: ReleaseId,
    accept_collapse: Annotated[
        bool, typer.Option("--accept-collapse", help="Publish although a table lost most of its rows.")
    ] = False,
) -> None:
    """Validate and publish a candidate, also one that failed before; all other critical expectations still hold."""
    from opportunity_sync import publish as stage
    from opportunity_sync import validate
    from opportunity_sync.export import export

    settings = load_settings()
    lenient = settings.model_copy(update={"minimum_rows_share": 0.0}) if accept_collapse else settings
    validate.validate(lenient, release_id)
    _announce(stage.publish(settings, release_id).release_id, release_id)
    export(settings, release_id)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="A release id, or `live`.")],
    after: Annotated[str, typer.Argument(help="A release id, or `live`.")] = "live",
    as_json: AsJson = False,
) -> None:
    """Count the rows that differ between two releases."""
    from opportunity_sync.diff import changes

    settings = load_settings()
    found = changes(settings, _file_of(settings, before), _file_of(settings, after))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for table, counts in found.items():
        typer.echo(f"{table}: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))


@app.command()
def explain(
    opportunity_id: Annotated[str, typer.Argument(help="The opportunity's id (a GUID).")], as_json: AsJson = False
) -> None:
    """Say why an opportunity has its account and its contact roles, step by step."""
    from opportunity_sync.explain import explain as collect
    from opportunity_sync.explain import lines

    found = collect(load_settings(), opportunity_id)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for line in lines(found):
        typer.echo(line)


def _file_of(settings: Settings, release_id: str) -> Path:
    root = open_data_root(settings.data)
    return root.live_file if release_id == "live" else root.releases / release_id / DATABASE


def _announce(live_id: str, release_id: str) -> None:
    if live_id == release_id:
        typer.echo(f"Live now: {release_id}")
    else:
        typer.echo(f"{release_id} was not published: the live release {live_id} holds newer data")


def _main_tables(rows: dict[str, int]) -> list[tuple[str, int]]:
    return [(table, count) for table, count in rows.items() if not table.startswith("release")]


def _status_lines(found: dict[str, Any]) -> list[str]:
    lines = [f"data root      {found['data_root']}"]
    live = found["live"]
    if live is None:
        lines.append("live release   none yet")
    else:
        lines += [
            f"live release   {live['release_id']}, {_ago(live['age_seconds'])}, by {live['run_id']}",
            f"file           {live['file']}",
            *(f"rows           {table} {count}" for table, count in _main_tables(live["rows"])),
            *(
                f"source         {table}: {source['rows']} rows, "
                + (f"as of {source['as_of']}, {_ago(source['age_seconds'])}" if source["as_of"] else "never fully read")
                + ("" if source["is_fresh"] else "  NOT FRESH")
                for table, source in live["sources"].items()
            ),
            f"expectations   {live['expectations_passed']} passed, {live['expectations_failed']} failed",
            *(
                f"  {each['severity']}: {each['relation']} {each['expectation']} {each['column_name'] or ''}".rstrip()
                for each in live["failed_expectations"]
            ),
            f"quality report {live['quality_report'] or 'none'}",
        ]
    for table, batch in found["newest_batches"].items():
        text = f"{batch['batch']}, {batch['rows']} rows, {batch['deletes']} deletes" if batch else "none yet"
        lines.append(f"newest batch   {table}: {text}")
    return lines


def _ago(seconds: int) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} seconds ago"
