"""The competitors of an extraction, each as a function that runs it once in a process of its own."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.columns import OPPORTUNITY
from benchmarks.organization import write_include
from benchmarks.process import PROJECT, WORK, Child, environment, run_child
from benchmarks.scale import say
from benchmarks.server import Server

HERE = Path(__file__).resolve().parent
OUTPUT = WORK / "extract"
SELECT = ",".join(column.api_name for column in OPPORTUNITY)

DLT_SETTINGS = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "NORMALIZE__JSON_NORMALIZER__ADD_DLT_ID": "false",
    "NORMALIZE__JSON_NORMALIZER__ADD_DLT_LOAD_ID": "false",
    "SOURCES__DATA_WRITER__DISABLE_COMPRESSION": "true",
}
"""dlt set for speed: nothing added to rows, intermediate files not compressed. See README.md for what did not help."""


def download(server: Server) -> Child:
    """Only download the bytes."""
    return run_child("-m", "benchmarks.competitors.download", server.url, server.ca_bundle, SELECT)


def ours(server: Server) -> Child:
    """This project."""
    include = WORK / "include"
    write_include(include, PROJECT / "include" / "sql")
    arguments = (server.url, server.ca_bundle, str(_fresh("ours")), str(include))
    return run_child("-m", "benchmarks.competitors.ours", *arguments)


def sdk(server: Server) -> Child:
    """Microsoft's SDK."""
    return run_child("-m", "benchmarks.competitors.sdk", server.url, server.ca_bundle, str(_fresh("sdk")))


def dlt(server: Server) -> Child:
    """dlt, in its own virtual environment."""
    folder = _fresh("dlt")
    env = environment(DLT_DATA_DIR=str(folder / "data"), DLT_PROJECT_DIR=str(folder / "project"), **DLT_SETTINGS)
    del env["PYTHONPATH"]
    program = HERE / "competitors" / "dlt_pipeline.py"
    return run_child(
        str(program), server.url, server.ca_bundle, str(folder), SELECT, python=str(_dlt_python()), env=env
    )


PEERS: dict[str, Callable[[Server], Child]] = {"sdk": sdk, "dlt": dlt}
NAMES = {"sdk": "Microsoft's SDK", "dlt": "dlt"}


def clear_output() -> None:
    """Delete what the competitors wrote."""
    shutil.rmtree(OUTPUT, ignore_errors=True)


def _fresh(name: str) -> Path:
    folder = OUTPUT / name
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _dlt_python() -> Path:
    """Python of the peers' environment, installed from `requirements.lock` when it is missing or outdated."""
    lock = HERE / "requirements.lock"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    venv = WORK / "venv"
    python, done = venv / "bin" / "python", venv / "installed"
    if not done.exists() or done.read_text(encoding="utf-8") != digest:
        say("installing dlt into an environment of its own")
        shutil.rmtree(venv, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        subprocess.run([*install, "--requirement", str(lock)], check=True)
        done.write_text(digest, encoding="utf-8")
    return python
