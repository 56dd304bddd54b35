"""Finding or installing the browser, with small programs in the place of browsers and package managers."""

from __future__ import annotations

import http.server
import io
import os
import re
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from opportunity_sync.settings import PROJECT

pytestmark = pytest.mark.slow

CHROMIUM = "#!/bin/sh\necho 'Chromium {version}'\n"


@dataclass(frozen=True)
class Machine:
    """A machine with nothing installed but what a test puts on its PATH."""

    folder: Path
    downloads: str

    def put(self, name: str, script: str) -> Path:
        path = self.folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(script, encoding="utf-8")
        path.chmod(0o755)
        return path

    def with_apt(self, *, brings: str | None) -> None:
        """A package manager that notes how it is called, and what it installs."""
        browser = self.folder / "bin" / "chromium"
        install = f'printf "{brings}" > {browser}; /bin/chmod +x {browser}' if brings else "exit 100"
        noted = f'echo "$@" >> {self.folder}/apt.log'
        self.put("apt-get", f'#!/bin/sh\n{noted}\ncase "$*" in install*) {install};; esac\n')
        self.put("sudo", '#!/bin/sh\nshift\nexec "$@"\n')
        self.put("env", '#!/bin/sh\nexec /usr/bin/env "$@"\n')
        self.put("true", "#!/bin/sh\n")

    @property
    def apt_calls(self) -> list[str]:
        log = self.folder / "apt.log"
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        """`python -m tests.browser.install` there."""
        (self.folder / "bin").mkdir(exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        return subprocess.run(
            [sys.executable, "-m", "tests.browser.install"],
            cwd=PROJECT,
            env={
                **{name: value for name, value in inherited.items() if not name.startswith("OPPORTUNITY_SYNC_")},
                "PATH": str(self.folder / "bin"),
                "PYTHONPATH": f"{PROJECT / 'plugins'}:{PROJECT}",
                "PLAYWRIGHT_BROWSERS_PATH": str(self.folder / "playwright"),
                "PLAYWRIGHT_DOWNLOAD_HOST": self.downloads,
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


class Downloads(http.server.BaseHTTPRequestHandler):
    """Playwright's download service: every archive holds the same small browser."""

    archive = b""

    def do_GET(self) -> None:
        self.send_response(200 if self.archive else 404)
        self.send_header("Content-Length", str(len(self.archive)))
        self.end_headers()
        self.wfile.write(self.archive)

    def log_message(self, *args: object) -> None:
        """Stay quiet."""


def _archive(script: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in ("chrome-linux64/chrome", "chrome-linux/chrome", "ffmpeg-linux"):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o100755 << 16
            archive.writestr(entry, script)
    return content.getvalue()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    Downloads.archive = b""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Downloads)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield Machine(tmp_path, f"http://127.0.0.1:{server.server_address[1]}")
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_installed_browser_is_taken_and_nothing_is_installed(machine: Machine) -> None:
    machine.with_apt(brings=CHROMIUM.format(version="3"))
    installed = machine.put("google-chrome", CHROMIUM.format(version="1"))
    done = machine.run()
    assert (done.returncode, done.stdout) == (0, f"Browser for the tests: {installed} (Chromium 1)\n")
    assert machine.apt_calls == []


def test_a_chosen_browser_wins_over_an_installed_one(machine: Machine) -> None:
    machine.put("google-chrome", CHROMIUM.format(version="1"))
    chosen = machine.put("mine", CHROMIUM.format(version="2"))
    assert f"{chosen} (Chromium 2)" in machine.run(OPPORTUNITY_SYNC_TEST_BROWSER=str(chosen)).stdout


def test_a_chosen_browser_that_does_not_run_is_an_error_and_not_replaced(machine: Machine) -> None:
    machine.put("google-chrome", CHROMIUM.format(version="1"))
    done = machine.run(OPPORTUNITY_SYNC_TEST_BROWSER="/nonexistent/browser")
    assert done.returncode == 1
    assert "/nonexistent/browser, does not run." in done.stderr
    assert done.stdout == ""


def test_a_placeholder_that_cannot_say_its_version_is_not_a_browser(machine: Machine) -> None:
    machine.put("google-chrome", "#!/bin/sh\necho install the snap; exit 1\n")
    found = machine.put("chromium", CHROMIUM.format(version="4"))
    assert f"{found} (Chromium 4)" in machine.run().stdout


def test_playwrights_download_comes_before_the_package_and_is_found_again(machine: Machine) -> None:
    Downloads.archive = _archive(CHROMIUM.format(version="5"))
    machine.with_apt(brings=CHROMIUM.format(version="6"))
    first, second = machine.run(), machine.run()
    for done in (first, second):
        assert done.returncode == 0, done.stdout + done.stderr
        assert "(Chromium 5)" in done.stdout
    assert str(machine.folder / "playwright") in first.stdout
    assert "$ " not in second.stdout, "it was installed a second time"
    assert machine.apt_calls == []


def test_the_package_is_installed_where_nothing_can_be_downloaded(machine: Machine) -> None:
    machine.with_apt(brings=CHROMIUM.format(version="7"))
    done = machine.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(Chromium 7)" in done.stdout
    assert machine.apt_calls == ["update", "install --yes --no-install-recommends chromium fonts-liberation"]


def test_without_any_browser_it_fails_and_says_in_three_sentences_what_was_tried(machine: Machine) -> None:
    machine.with_apt(brings=None)
    done = machine.run()
    assert done.returncode == 1
    message = done.stderr.strip().splitlines()[-1]
    assert re.search(
        r"install --no-shell chromium` ended with 1; .*apt-get update` ended with 0, .* with 100\. ", message
    )
    assert len(re.findall(r"\.(?: |$)", message)) == 3
    assert "OPPORTUNITY_SYNC_TEST_BROWSER" in message
