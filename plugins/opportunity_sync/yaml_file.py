"""Read a YAML file of the user's and check its keys; every problem is reported with file and line."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from opportunity_sync.errors import ConfigurationError


def read_yaml(path: Path, *, state: str) -> Any:
    """Read a YAML file; mappings and lists know their lines (`.lc`).

    Args:
        path: the file.
        state: what has not happened if it is wrong, for the error.

    Raises:
        ConfigurationError: the file cannot be read, or is not YAML.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise file_problem(f"{path} cannot be read: {error.strerror}", state=state) from error
    except (YAMLError, ValueError, TypeError, LookupError) as error:  # the last three: what odd tags and bytes raise
        raise file_problem(f"{path} is not YAML: {error}", state=state) from error


def check_keys(path: Path, mapping: Any, *, allowed: Collection[str], what: str, state: str, line: int = 1) -> None:
    """Check that a mapping has exactly the allowed keys.

    Raises:
        ConfigurationError: it is no mapping, or a key is unknown or missing.
    """
    is_mapping = isinstance(mapping, dict)
    if not is_mapping:
        raise file_problem(f"{path}, line {line}: expected a mapping with {', '.join(allowed)}", state=state)
    for found in mapping:
        if found not in allowed:
            where = mapping.lc.key(found)[0] + 1
            known = ", ".join(allowed)
            raise file_problem(f"{path}, line {where}: unknown {what} {found!r}; allowed: {known}", state=state)
    for needed in allowed:
        if needed not in mapping:
            known = ", ".join(allowed)
            raise file_problem(f"{path}, line {line}: {what} {needed} is missing; needed: {known}", state=state)


def file_problem(what: str, *, state: str) -> ConfigurationError:
    """The error for a file that a person has to correct."""
    return ConfigurationError(what, state=state, action="Correct the file and run again")
