from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@contextmanager
def _served(*arguments: str, temporary: Path | None = None) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    command = [sys.executable, "-m", "emulator", "--port", "0", *arguments]
    environment = os.environ | ({"TMPDIR": str(temporary)} if temporary else {})
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            ready, url, bundle = line.split(" ", 2)
            assert ready == "ready"
            yield process, url, bundle.removeprefix("ca=")
        finally:
            process.kill()


def _health(url: str, bundle: str) -> dict[str, object]:
    with requests.Session() as session:
        session.trust_env = False
        body: dict[str, object] = session.get(f"{url}/_control/health", verify=bundle, timeout=20).json()
    return body


def test_it_says_when_it_is_ready_and_sigterm_ends_it_cleanly(seed: Path, tmp_path: Path) -> None:
    state, rules = tmp_path / "state", tmp_path / "rules.yaml"
    rules.write_text("- {action: slow, seconds: 0}\n")
    options = ["--data", str(seed), "--state", str(state), "--faults", str(rules)]
    with _served(*options) as (process, url, bundle):
        first = _health(url, bundle)
        assert (first["status"], first["faults"]) == ("ok", 1)
        assert Path(bundle) == state / "tls" / "ca.pem"
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
    authority = Path(bundle).read_bytes()
    with _served(*options) as (_, url, bundle):
        second = _health(url, bundle)
    assert second["organization_id"] == first["organization_id"]
    assert Path(bundle).read_bytes() == authority


def test_without_a_state_folder_nothing_is_left_behind(seed: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with _served("--data", str(seed), temporary=temporary) as (process, url, bundle):
        assert _health(url, bundle)["status"] == "ok"
        assert list(temporary.iterdir()) != []
        process.send_signal(signal.SIGTERM)
        process.wait(15)
    assert list(temporary.iterdir()) == []


def test_generate_writes_a_seed(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "emulator",
        "generate",
        str(tmp_path / "org"),
        "--opportunities",
        "20",
        "--seed",
        "3",
    ]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    assert len(json.loads((tmp_path / "org" / "opportunities.json").read_text())) == 20


@pytest.mark.parametrize("arguments", [[], ["--data", "x"], ["--data", "x", "--port", "many"]])
def test_wrong_arguments_are_refused(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "emulator", *arguments]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False).returncode == 2
