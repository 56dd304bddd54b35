"""Find a Chromium for the browser tests, or install one: `python -m tests.browser.install` (`make browser`).

In this order: the program that OPPORTUNITY_SYNC_TEST_BROWSER names, and no other; one that is installed; the one that
Playwright has downloaded before; Playwright's download; the Debian package. A browser counts when it can say its
version, so that neither a placeholder nor one whose libraries are missing is taken for one.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

CHOSEN = "OPPORTUNITY_SYNC_TEST_BROWSER"
NAMES = ("google-chrome", "google-chrome-stable", "chromium", "chromium-browser", "chrome")
PLAYWRIGHT = (sys.executable, "-m", "playwright")
PACKAGES = ("chromium", "fonts-liberation")
"""Debian's; without the fonts every text is drawn as empty boxes."""
VERSION_SECONDS = 60
INSTALL_SECONDS = 900
"""Longest wait for one attempt; an address that does not resolve fails within seconds."""


class NoBrowserError(Exception):
    """There is no browser, and none could be installed."""


@dataclass(frozen=True)
class Browser:
    """A Chromium or Chrome that runs."""

    program: Path
    version: str


def find() -> Browser | None:
    """A browser that is on this machine, if there is one.

    Raises:
        NoBrowserError: the one that was chosen does not run.
    """
    if chosen := os.environ.get(CHOSEN):
        if version := _version(Path(chosen)):
            return Browser(Path(chosen), version)
        raise NoBrowserError(
            f"The browser that {CHOSEN} names, {chosen}, does not run. No browser test was run. "
            "Name a Chromium or Chrome there, or unset it to have one found."
        )
    return next((Browser(program, version) for program in _candidates() if (version := _version(program))), None)


def install() -> Browser:
    """Find a browser, or install one.

    Raises:
        NoBrowserError: the one that was chosen does not run, or nothing brought one.
    """
    if found := find():
        return found
    tried = []
    for attempt in (_download, _install_libraries, _install_package):
        tried.append(attempt())
        if found := find():
            return found
    raise NoBrowserError(
        f"There is no Chromium or Chrome on this machine, and installing one failed: {'; '.join(tried)}. "
        "No test was run, because browser tests are never left out. "
        f"Install Chromium or Chrome, or name one in {CHOSEN}, and run the command again."
    )


def _candidates() -> Iterator[Path]:
    yield from (Path(found) for name in NAMES if (found := shutil.which(name)))
    yield _downloaded()


def _downloaded() -> Path:
    """Where Playwright puts its browser, whether it is there or not."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        return Path(playwright.chromium.executable_path)


def _version(program: Path) -> str | None:
    """What a browser says of itself; None when it cannot be run."""
    try:
        said = subprocess.run(
            [program, "--version"], capture_output=True, text=True, check=False, timeout=VERSION_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return said.stdout.strip() if said.returncode == 0 else None


def _download() -> str:
    return _run([*PLAYWRIGHT, "install", "--no-shell", "chromium"])


def _install_libraries() -> str:
    """What Playwright's browser needs of the system, where it was downloaded but does not run."""
    prefix = _as_root()
    if prefix is None or not _downloaded().exists():
        return "no libraries were installed for it"
    return _run([*prefix, *PLAYWRIGHT, "install-deps", "chromium"])


def _install_package() -> str:
    prefix = _as_root()
    if shutil.which("apt-get") is None:
        return "there is no apt-get"
    if prefix is None:
        return "apt-get needs root, or sudo without a password"
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
    updated = _run([*apt, "update"])
    return f"{updated}, {_run([*apt, 'install', '--yes', '--no-install-recommends', *PACKAGES])}"


def _as_root() -> list[str] | None:
    """What to put before a command to run it as root; None where that needs a password."""
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "--non-interactive"]
    allowed = shutil.which("sudo") and subprocess.run([*sudo, "true"], capture_output=True, check=False).returncode == 0
    return sudo if allowed else None


def _run(command: Sequence[str]) -> str:
    """Run a command with its output shown, and say how it ended."""
    shown = " ".join(command).replace(sys.executable, "python")
    _say(f"$ {shown}")
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            return f"`{shown}` ended with {process.wait(INSTALL_SECONDS)}"
        except subprocess.TimeoutExpired:
            return f"`{shown}` did not end within {INSTALL_SECONDS} s"
        finally:
            if process.poll() is None:  # also when interrupted; Playwright has children of its own
                os.killpg(process.pid, signal.SIGKILL)


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 (a command's output)


if __name__ == "__main__":
    try:
        _installed = install()
    except NoBrowserError as failure:
        sys.exit(str(failure))
    _say(f"Browser for the tests: {_installed.program} ({_installed.version})")
