"""The documentation tells the truth about what exists."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

from opportunity_sync.errors import OpportunitySyncError
from opportunity_sync.release import PUBLISHED_TABLES

PROJECT = Path(__file__).parents[1]
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md"), *PROJECT.glob("*/README.md")])


def text(path: str) -> str:
    return (PROJECT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_readme_names_its_two_commands_and_the_published_tables() -> None:
    readme = text("README.md")
    assert "make run" in readme
    assert "make test" in readme
    assert [table for table in PUBLISHED_TABLES if f"`{table}`" not in readme] == []


def test_every_make_target_the_documentation_names_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), flags=re.MULTILINE))
    for page in PAGES:
        named = set(re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8")))
        assert named <= targets, page


def test_every_command_the_documentation_names_exists() -> None:
    from opportunity_sync.cli import app

    commands = {
        command.name or command.callback.__name__ for command in app.registered_commands if command.callback is not None
    }
    for page in PAGES:
        named = set(re.findall(r"opportunity-sync ([a-z]+)", page.read_text(encoding="utf-8")))
        assert named <= commands, page


def error_classes() -> list[type[OpportunitySyncError]]:
    modules = [
        importlib.import_module(name) for name in ("opportunity_sync.errors", "opportunity_sync.dataverse.errors")
    ]
    found = {
        member
        for module in modules
        for _, member in inspect.getmembers(module, inspect.isclass)
        if issubclass(member, OpportunitySyncError)
    }
    bases = {base for member in found for base in member.__mro__[1:]}
    return sorted(found - bases, key=lambda member: member.__name__)


HANDLED = {"DeltaLinkExpiredError", "ChangeTrackingOffError"}
"""Errors a scheduled run handles by itself; the runbook names their log lines instead."""


@pytest.mark.parametrize("error", error_classes(), ids=lambda error: error.__name__)
def test_the_runbook_says_what_to_do_about_every_error(error: type[OpportunitySyncError]) -> None:
    assert error.__name__ in HANDLED or f"`{error.__name__}`" in text("docs/runbook.md")


def test_every_environment_variable_in_the_documentation_is_read_somewhere() -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("plugins", "dags", "quickstart")
        for path in (PROJECT / folder).rglob("*.py")
    )
    settings = set(
        re.findall(r"^    ([a-z_]+): .*= ", text("plugins/opportunity_sync/settings.py"), flags=re.MULTILINE)
    )
    for page in PAGES:
        for name in set(re.findall(r"OPPORTUNITY_SYNC_[A-Z_]+", page.read_text(encoding="utf-8"))):
            known = name in code or name.removeprefix("OPPORTUNITY_SYNC_").lower() in settings
            assert known, f"{page}: {name}"
