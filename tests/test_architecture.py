"""The shape of the project: which room may import which, and what may not exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "plugins" / "opportunity_sync"

AIRFLOW_ROOMS = {
    "dataverse/hook.py",
    "marketo/hook.py",
    "assets.py",
    "alerts.py",
    "lineage_events.py",
    "pages/access.py",
    "release_tasks.py",
    "retries.py",
}
"""The only modules of the package that may import Airflow."""

LAYERS = (
    {"errors"},
    {"settings", "data_root", "yaml_file", "tables", "manifest", "backoff"},
    {"lake", "release"},
    {"dataverse", "marketo", "published"},
    {"convert_sql", "comparison"},
    {"refusal"},
    {"convert", "diff", "explain", "history", "expectations", "expectation_results"},
    {"lineage", "pages", "quality"},
    {"extract", "warehouse", "compact", "validate", "publish", "export"},
    {"backfill", "reconcile", "marketo_load", "lineage_facts"},
    {"assets", "alerts", "lineage_events", "retries", "steps", "status", "check", "marketo_cli", "cli", "__main__"},
    {"release_tasks"},
)
"""Rooms of the package from the bottom up: a room imports lower ones, and siblings only as named below."""

SAME_LAYER = {
    ("release", "lake"),
    ("settings", "tables"),
    ("tables", "yaml_file"),
    ("lake", "release"),
    ("steps", "assets"),
    ("__main__", "cli"),
    ("cli", "status"),
    ("history", "diff"),
    ("cli", "check"),
    ("cli", "marketo_cli"),
    ("compact", "warehouse"),
    ("quality", "pages"),
}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Every module name imported anywhere in a file, also inside functions, but not for type checking only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(module: str) -> str | None:
    """`opportunity_sync.dataverse.client` -> `dataverse`."""
    parts = module.split(".")
    return parts[1] if parts[0] == "opportunity_sync" and len(parts) > 1 else None


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_the_layers(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    here = relative.parts[0].removesuffix(".py")
    if here == "__init__":
        return
    level = {name: number for number, names in enumerate(LAYERS) for name in names}
    assert here in level, f"{here} is a new room: give it a layer in this test and a line in docs/architecture.md"
    rooms = {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir()}
    for module in imported(path):
        there = room(module)
        if there is None or there == here or there not in rooms:
            continue
        assert level[there] < level[here] or (here, there) in SAME_LAYER, f"{relative} imports {module}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_airflow_rooms_import_airflow(path: Path) -> None:
    if str(path.relative_to(PACKAGE)) not in AIRFLOW_ROOMS:
        assert [name for name in imported(path) if name.split(".")[0] == "airflow"] == []


@pytest.mark.parametrize("folder", ["plugins", "dags"])
def test_the_product_never_imports_the_demonstration(folder: str) -> None:
    for path in (PROJECT / folder).rglob("*.py"):
        forbidden = {"emulator", "quickstart", "benchmarks", "tests", "docs"}
        assert forbidden.isdisjoint(name.split(".")[0] for name in imported(path)), path


def test_of_all_files_in_plugins_airflow_loads_the_one_plugin_and_nothing_else() -> None:
    """`tests/dags/test_ui_plugin.py` asks Airflow itself."""
    ignored = (PROJECT / "plugins" / ".airflowignore").read_text(encoding="utf-8")
    assert ignored == "*\n!opportunity_sync_ui.py\n"
    assert [path.name for path in (PROJECT / "plugins").glob("*.py")] == ["opportunity_sync_ui.py"]


@pytest.mark.parametrize("folder", ["plugins", "dags", "emulator", "quickstart", "benchmarks", "tests", "docs"])
def test_no_room_is_called_utils_common_or_helpers(folder: str) -> None:
    vague = re.compile(r"^(utils?|commons?|helpers?|misc)$")
    paths = (path.relative_to(PROJECT) for path in (PROJECT / folder).rglob("*"))
    rooms = (path for path in paths if ".work" not in path.parts)
    assert [path for path in rooms if vague.match(path.stem)] == []


def test_text_only_in_include() -> None:
    assert list((PROJECT / "include").rglob("*.py")) == []


def test_models_are_one_select_without_templating() -> None:
    for path in (PROJECT / "include" / "sql").rglob("*.sql"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith("--"), f"{path} does not say what it is"
        assert "{{" not in text, path
        assert "{%" not in text, path
        assert ";" not in re.sub(r"--.*|'[^']*'", "", text), path


def test_every_decision_has_context_decision_and_price() -> None:
    for path in (PROJECT / "docs" / "decisions").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        assert [word for word in ("**Context.**", "**Decision.**", "**Price.**") if word not in text] == [], path
