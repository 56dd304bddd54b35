from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from emulator.marketo.__main__ import main
from tests.stand_in import SAMPLE_DATA

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


@contextmanager
def _served(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    command = [sys.executable, "-m", "emulator.marketo", "--port", "0", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready, url, bundle = process.stdout.readline().strip().split(" ", 2)
            assert ready == "ready"
            yield process, url, bundle.removeprefix("ca=")
        finally:
            process.kill()


def _control(url: str, bundle: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
    with requests.Session() as session:
        session.trust_env = False
        response = session.request(method, f"{url}/_control/{path}", json=body, verify=bundle, timeout=20)
    document: dict[str, Any] = response.json()
    return document


def test_it_serves_the_contacts_and_lives_on_after_a_kill(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("- {action: slow, seconds: 0}\n")
    options = [
        *("--contacts", str(SAMPLE_DATA / "contacts.json"), "--state", str(tmp_path / "state")),
        *("--faults", str(tmp_path / "rules.yaml"), "--daily-quota", "99", "--calls-per-window", "50"),
        *("--concurrent-calls", "5", "--contact-field", "crmId", "--tls", str(tmp_path / "tls"), "--native-crm-sync"),
    ]
    with _served(*options) as (process, url, bundle):
        first = _control(url, bundle, "GET", "health")
        assert (first["faults"], first["native_crm_sync"], first["contact_field"]) == (1, True, "crmId")
        limits = _control(url, bundle, "GET", "counters")["limits"]
        assert limits == {"calls_per_window": 50, "concurrent_calls": 5, "daily_quota": 99}
        record = {"externalOpportunityId": "o", "name": "n"}
        _control(url, bundle, "POST", "upsert", {"object": "opportunities", "records": [record]})
        process.kill()
        process.wait(15)
    assert Path(bundle) == tmp_path / "tls" / "ca.pem"
    with _served(*options) as (process, url, bundle):
        second = _control(url, bundle, "GET", "health")
        assert second["records"] == {**first["records"], "opportunities": 1}
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


def test_a_seed_is_one_file(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--port", "0", "--leads", "a", "--contacts", "b"])
    assert "not allowed with" in capsys.readouterr().err
