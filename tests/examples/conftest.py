"""The invented organisation that the documentation shows, published once for all tests of the examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.example_organisation import publish_example


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its published folder."""
    return publish_example(tmp_path_factory.mktemp("example") / "data").parent
