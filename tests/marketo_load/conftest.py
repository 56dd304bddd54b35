"""Fixtures of the load stage's tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from opportunity_sync.settings import PROJECT


@pytest.fixture
def edit_rules(tmp_path: Path) -> Callable[[str, str], Path]:
    """Copies `include/` with one text of `marketo.yaml` replaced; gives back the copy."""

    def edit(old: str, new: str) -> Path:
        folder = tmp_path / "include"
        if not folder.exists():
            shutil.copytree(PROJECT / "include", folder)
        file = folder / "marketo.yaml"
        text = file.read_text(encoding="utf-8")
        assert text.count(old) >= 1, old
        file.write_text(text.replace(old, new, 1), encoding="utf-8")
        return folder

    return edit
