"""The documentation tells the truth about what exists."""

from __future__ import annotations

import importlib
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
        assert named <= commands | {"marketo"}, page


def test_the_documentation_names_every_command_about_marketo_and_no_other() -> None:
    from opportunity_sync.marketo_cli import app

    commands = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    named = {
        name
        for page in PAGES
        for name in re.findall(r"opportunity-sync marketo ([a-z-]+)", page.read_text(encoding="utf-8"))
    }
    assert named == commands


def _modules_with_errors() -> dict[str, list[str]]:
    """Module to the error classes its text defines."""
    found = {}
    for path in sorted((PROJECT / "plugins" / "opportunity_sync").rglob("*.py")):
        name = ".".join(path.relative_to(PROJECT / "plugins").with_suffix("").parts).removesuffix(".__init__")
        found[name] = re.findall(r"^class (\w+Error)\(", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name: classes for name, classes in found.items() if classes}


def error_classes() -> list[type[OpportunitySyncError]]:
    """Every error the product can raise, in whichever module: those that are not only a base of others."""
    found = {
        getattr(importlib.import_module(name), each) for name, all_ in _modules_with_errors().items() for each in all_
    }
    bases = {base for member in found for base in member.__mro__[1:]}
    return sorted(found - bases, key=lambda member: member.__name__)


HANDLED = {"DeltaLinkExpiredError", "ChangeTrackingOffError"}
"""Errors a scheduled run handles by itself; the runbook names their log lines instead."""


@pytest.mark.parametrize("error", error_classes(), ids=lambda error: error.__name__)
def test_the_runbook_says_what_to_do_about_every_error(error: type[OpportunitySyncError]) -> None:
    assert error.__name__ in HANDLED or f"`{error.__name__}`" in text("docs/runbook.md")


def test_every_error_is_one_of_ours_and_only_bases_have_no_row() -> None:
    written = {each for classes in _modules_with_errors().values() for each in classes}
    bases = {"OpportunitySyncError", "DataverseError", "MarketoError"}
    assert written - {each.__name__ for each in error_classes()} == bases
    assert all(issubclass(each, OpportunitySyncError) for each in error_classes())


def test_the_runbook_names_the_subject_of_every_alarm() -> None:
    """Subjects as `alerts.py` writes them, with `DAG`, `TASK` and `ERROR` for what varies."""
    code = text("plugins/opportunity_sync/alerts.py")
    subjects = re.findall(r'_send\(\s*f"([^"\n]+)"', code) + re.findall(r"_send\(\s*f'([^'\n]+)'", code)
    assert len(subjects) == code.count("_send(") - 1
    words = {"ti.dag_id": "DAG", "run['dag_id']": "DAG", "ti.task_id": "TASK", "type(error).__name__": "ERROR"}
    for subject in subjects:
        shown = re.sub(r"\{([^}]+)\}", lambda found: words.get(found[1], ""), subject)
        assert f"| `{shown}` |" in text("docs/runbook.md")


def test_the_runbook_names_every_dag_and_every_command_has_a_place_in_the_documentation() -> None:
    from opportunity_sync.cli import app

    runbook, everything = text("docs/runbook.md"), "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [path.stem for path in (PROJECT / "dags").glob("*.py") if f"`{path.stem}`" not in runbook] == []
    names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    assert [name for name in names if f"opportunity-sync {name}" not in everything] == []


def test_every_environment_variable_in_the_documentation_is_read_somewhere() -> None:
    code = "".join(
        path.read_text(encoding="utf-8")
        for folder in ("plugins", "dags", "quickstart", "tests/browser")
        for path in (PROJECT / folder).rglob("*.py")
    )
    settings = set(
        re.findall(r"^    ([a-z_]+): .*= ", text("plugins/opportunity_sync/settings.py"), flags=re.MULTILINE)
    )
    for page in PAGES:
        for name in set(re.findall(r"OPPORTUNITY_SYNC_[A-Z_]+", page.read_text(encoding="utf-8"))):
            known = name in code or name.removeprefix("OPPORTUNITY_SYNC_").lower() in settings
            assert known, f"{page}: {name}"
