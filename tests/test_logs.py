"""Neither people nor secrets in anything that is written for operators, over runs that go well and runs that fail.

One data root sees, through real Airflow and the command line: a run with faults of the service, a batch refused for
a value that is personal data, and a failed validation. Then everything is searched but the data itself: log files,
Airflow's database with its XComs, file names, manifests, reports, mails, and what commands print.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from rich.console import Console
from ruamel.yaml import YAML

from opportunity_sync.data_root import open_data_root
from opportunity_sync.settings import Settings
from opportunity_sync.tables import READ_ORDER
from quickstart.environment import airflow_home, environment
from quickstart.run import run_dag
from quickstart.settings_file import SETTINGS_FILE
from quickstart.stand_in import SAMPLE_DATA, StandIn, stand_in
from tests.mail_server import body, mail_server

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("airflow")]

EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
TOKEN = re.compile(rb"eyJ[\w-]{10,}\.[\w-]{10,}")
"""A JSON web token, as every access token is."""
LEAKY_PERSON, LEAKY_EMAIL = "Jane Leaky-Doe", "jane.leaky@example.com"
ORDINARY_WORDS = {"Early"}
"""Last names that logs may well contain; they are looked for with the first name."""
FAULTS: tuple[Mapping[str, Any], ...] = (
    {"action": "throttle", "table": "opportunity", "nth": 1, "retry_after": 1},
    {"action": "status", "status": 503, "table": "contact", "nth": 1},
    {"action": "reset", "table": "account", "nth": 1},
    {"action": "truncate", "table": "connection", "nth": 1},
    {"action": "unauthorized", "table": "connectionrole", "nth": 1},
)


@dataclass
class Operation:
    """What became of the data root, and everything it said."""

    settings: Settings
    codes: list[int] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    """Texts that are in no file: errors shown, mails, output of commands."""


def hidden() -> dict[str, bytes]:
    """Every e-mail address and every person's name of the sample, and every secret of the stand-in."""
    rows = [row for path in SAMPLE_DATA.glob("*.json") for row in _rows(json.loads(path.read_text(encoding="utf-8")))]
    names = {str(row[name]) for row in rows for name in ("fullname", "lastname") if row.get(name)}
    emails = {
        address for path in SAMPLE_DATA.glob("*.json") for address in EMAIL.findall(path.read_text(encoding="utf-8"))
    }
    secrets = {"stand-in-secret", "stand-in-expired-secret", "stand-in-password"}
    found = {*(names - ORDINARY_WORDS), *emails, *secrets, LEAKY_PERSON, LEAKY_EMAIL}
    return {text: text.lower().encode() for text in found if len(text) > 3}


def _rows(document: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON document, however deep."""
    if isinstance(document, dict):
        yield document
    for each in document.values() if isinstance(document, dict) else document if isinstance(document, list) else ():
        yield from _rows(each)


def searched(operation: Operation) -> Iterator[tuple[str, bytes]]:
    """Name and content of all that operators may read; the data itself and the connection to import are left out."""
    root = open_data_root(operation.settings.data)
    yield from ((name, text.encode()) for name, text in operation.said.items())
    for path in sorted(root.path.rglob("*")):
        relative = path.relative_to(root.path)
        yield f"name of {relative}", str(relative).encode()
        is_data = path.suffix in (".parquet", ".duckdb", ".wal") or relative.parts[0] == "emulator"
        if path.is_file() and not is_data and path.parent != airflow_home(operation.settings) / "import":
            yield str(relative), path.read_bytes()


def leaks(operation: Operation, texts: Mapping[str, bytes]) -> list[str]:
    """Where one of the texts is found as words of its own, in any case and also as JSON writes it."""
    wanted = {
        text: re.compile(rb"(?<![a-z])(?:%s|%s)(?![a-z])" % (re.escape(needle), re.escape(_as_json(needle))))
        for text, needle in texts.items()
    }
    return [
        f"{text!r} in {where}"
        for where, content in ((where, content.lower()) for where, content in searched(operation))
        for text, pattern in wanted.items()
        if pattern.search(content)
    ]


def _as_json(needle: bytes) -> bytes:
    return json.dumps(needle.decode())[1:-1].encode()


@pytest.fixture(scope="module")
def operation(tmp_path_factory: pytest.TempPathFactory) -> Operation:
    settings = Settings(data=tmp_path_factory.mktemp("logs") / "data")
    open_data_root(settings.data)
    done = Operation(settings)
    owner = f"run:{settings.data}"
    with mail_server() as (inbox, smtp), stand_in(settings, SAMPLE_DATA, owner=owner) as service:
        objects = settings.data.parent / "airflow_settings.yaml"
        _write_objects(objects, smtp)

        def run(faults: tuple[Mapping[str, Any], ...]) -> None:
            _control(service, "faults", faults)
            log = settings.data / f"run-{len(done.codes)}.log"
            errors, code = run_dag(settings, service, log, Console(quiet=True), owner=owner, objects=objects)
            done.errors.append(errors)
            done.codes.append(code)

        run(FAULTS)
        contact = json.loads((SAMPLE_DATA / "contacts.json").read_text(encoding="utf-8"))[0]["contactid"]
        values = {"firstname": "Jane", "lastname": "Leaky-Doe", "emailaddress1": LEAKY_EMAIL}
        service.apply([{"op": "update", "table": "contact", "id": contact, "values": values}])
        run(({"action": "wrong_type", "table": "contact", "column": "statecode", "value": LEAKY_EMAIL},))
        opportunities = json.loads((SAMPLE_DATA / "opportunities.json").read_text(encoding="utf-8"))
        service.apply(
            [{"op": "delete", "table": "opportunity", "id": row["opportunityid"]} for row in opportunities[:35]]
        )
        run(())
        for arguments in (["status"], ["status", "--json"], ["releases"], ["rebuild"]):
            done.said[f"opportunity-sync {' '.join(arguments)}"] = _command(settings, *arguments)
        for number, (_, message) in enumerate(inbox.messages):
            done.said[f"mail {number}"] = f"{message['Subject']}\n{body(message)}"
    done.said["errors shown"] = json.dumps(done.errors, ensure_ascii=False)
    return done


def _control(service: StandIn, switch: str, document: Any) -> None:
    requests.post(
        f"{service.url}/_control/{switch}", json=document, verify=service.ca_bundle, timeout=30
    ).raise_for_status()


def _command(settings: Settings, *arguments: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-m", "opportunity_sync", *arguments],
        env=environment(settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return finished.stdout + finished.stderr


def _write_objects(file: Path, smtp: Mapping[str, Any]) -> None:
    """The project's `airflow_settings.yaml` with a mail server and somebody to write to."""
    yaml = YAML()
    document = yaml.load(SETTINGS_FILE.read_text(encoding="utf-8"))
    names = {"host": "conn_host", "port": "conn_port", "extra": "conn_extra"}
    mail = {names.get(key, key): value for key, value in smtp.items()}
    document["airflow"]["connections"].append({"conn_id": "smtp_default", **mail})
    for variable in document["airflow"]["variables"]:
        if variable["variable_name"] == "opportunity_sync_alert_emails":
            variable["variable_value"] = "operators@example.net"
    with file.open("w", encoding="utf-8") as stream:
        yaml.dump(document, stream)


def test_the_runs_met_what_they_were_meant_to_meet(operation: Operation) -> None:
    assert operation.codes == [0, 1, 1]
    good, refused, invalid = operation.errors
    assert good == {}
    assert "Table contact, page 1, row" in refused["extract contact"]
    assert "expectations failed critically" in invalid["validate"]
    subjects = [text.partition("\n")[0] for name, text in operation.said.items() if name.startswith("mail")]
    assert "opportunity_sync: validate failed with ValidationFailedError" in subjects
    assert any("failed with BatchRefusedError" in subject for subject in subjects)
    assert "expectations failed critically" in operation.said["opportunity-sync rebuild"]


def test_no_person_and_no_secret_is_in_logs_airflows_database_file_names_reports_or_mails(operation: Operation) -> None:
    texts = hidden()
    assert len(texts) > 80
    assert leaks(operation, texts) == []


def test_no_access_token_is_in_what_the_product_writes(operation: Operation) -> None:
    found = [where for where, content in searched(operation) if TOKEN.search(content)]
    assert found == []


def test_the_search_sees_logs_the_database_names_and_mails(operation: Operation) -> None:
    """Without this the tests above could pass by looking nowhere."""
    names = {where for where, _ in searched(operation)}
    assert any(name.endswith("validation.json") for name in names)
    assert {"airflow/airflow.db", "run-0.log", "run-1.log", "run-2.log", "mail 0"} <= names
    assert "'extract_children' in airflow/airflow.db" in leaks(operation, {"extract_children": b"extract_children"})
    planted = operation.settings.data / "logs" / f"planted-{LEAKY_EMAIL}.log"
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(f"could not read {LEAKY_PERSON}", encoding="utf-8")
    try:
        found = leaks(operation, hidden())
    finally:
        planted.unlink()
    assert found == [f"{LEAKY_EMAIL!r} in name of logs/{planted.name}", f"{LEAKY_PERSON!r} in logs/{planted.name}"]


@pytest.mark.parametrize("table", READ_ORDER)
def test_every_extraction_says_its_counts_in_one_line_at_its_end(operation: Operation, table: str) -> None:
    said = (operation.settings.data / "run-0.log").read_text(encoding="utf-8", errors="replace")
    lines = {line for line in said.splitlines() if f"Extracted table {table}, mode full" in line}
    assert len(lines) == 1
    assert re.search(r"\d+ rows, \d+ deletes, \d+ pages in [\d.]+ s", lines.pop())


@pytest.mark.parametrize(
    "pattern",
    [
        r"transform: \d+ batches applied, candidate \w+ built \(full\): opportunities \d+",
        r"validate: .*\d+",
        r"publish: ",
        r"export: ",
    ],
    ids=["transform", "validate", "publish", "export"],
)
def test_every_later_stage_says_what_it_did_in_one_line(operation: Operation, pattern: str) -> None:
    said = (operation.settings.data / "run-0.log").read_text(encoding="utf-8", errors="replace")
    assert re.search(pattern, said)
