"""Settings come from the environment, checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from opportunity_sync.errors import ConfigurationError
from opportunity_sync.settings import PROJECT, load_settings


@pytest.fixture(autouse=True)
def no_settings_of_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("OPPORTUNITY_SYNC_")]:
        monkeypatch.delenv(name)


def test_without_environment_the_data_root_is_below_the_project() -> None:
    assert load_settings().data == PROJECT / "data"


def test_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPPORTUNITY_SYNC_DATA", str(tmp_path))
    monkeypatch.setenv("OPPORTUNITY_SYNC_STAKEHOLDER_CATEGORIES", "[1000, 1001]")
    monkeypatch.setenv("OPPORTUNITY_SYNC_ROLE_WHEN_MISSING", "Stakeholder")
    settings = load_settings()
    assert settings.data == tmp_path
    assert settings.stakeholder_categories == (1000, 1001)
    assert settings.role_when_missing == "Stakeholder"


def test_a_relative_data_root_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPPORTUNITY_SYNC_DATA", "elsewhere")
    assert load_settings().data == tmp_path / "elsewhere"


@pytest.mark.parametrize(
    ("name", "value"),
    [("PAGE_SIZE", "6000"), ("PAGE_SIZE", "many"), ("MINIMUM_ROWS_SHARE", "1.5"), ("RELEASES_KEPT", "0")],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_variable(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"OPPORTUNITY_SYNC_{name}", value)
    with pytest.raises(ConfigurationError, match=f"OPPORTUNITY_SYNC_{name}: "):
        load_settings()
