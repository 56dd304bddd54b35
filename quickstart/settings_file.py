"""`airflow_settings.yaml` for plain Airflow: the Astro CLI reads that file, Airflow itself does not.

The file's objects are written in the formats of `airflow connections import`, `pools import` and `variables import`.
Format of the file: https://www.astronomer.io/docs/astro/cli/develop-project (section on airflow_settings.yaml).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from opportunity_sync.settings import PROJECT
from quickstart.errors import QuickStartError

SETTINGS_FILE = PROJECT / "airflow_settings.yaml"
DATAVERSE = "dataverse_default"
MARKETO = "marketo_default"


def import_commands(
    file: Path, folder: Path, *, url: str, ca_bundle: str, marketo: tuple[str, str] | None = None
) -> list[list[str]]:
    """Write the objects of a settings file into `folder` and say how to import them.

    Args:
        file: an `airflow_settings.yaml`.
        folder: where the files to import are written.
        url: address of the stand-in that `dataverse_default` shall point at.
        ca_bundle: path of the certificate that vouches for it.
        marketo: the same two of the stand-in that `marketo_default` shall point at; without it that connection is left
            out, and nothing is loaded into Marketo.

    Returns:
        Arguments of `airflow` commands.

    Raises:
        QuickStartError: the file has no connection `dataverse_default`.
    """
    objects = YAML(typ="safe").load(file.read_text(encoding="utf-8"))["airflow"]
    connections = {entry["conn_id"]: _connection(entry) for entry in objects["connections"]}
    if DATAVERSE not in connections:
        raise QuickStartError(f"{file} has no connection {DATAVERSE}")
    connection = connections[DATAVERSE]
    connection |= {"host": url, "port": None}
    connection["extra"] = {**connection["extra"], "authority": url, "ca_bundle": ca_bundle}
    instance = connections.pop(MARKETO, None)
    if marketo is not None and instance is not None:
        instance |= {"host": marketo[0], "port": None, "extra": {**instance["extra"], "ca_bundle": marketo[1]}}
        connections[MARKETO] = instance
    pools = {
        entry["pool_name"]: {"slots": entry["pool_slot"], "description": entry["pool_description"] or ""}
        for entry in objects["pools"]
    }
    variables = {entry["variable_name"]: entry["variable_value"] or "" for entry in objects["variables"]}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("connections", connections), ("pools", pools), ("variables", variables)):
        path = folder / f"{name}.json"
        path.touch(mode=0o600)  # a connection holds a secret
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return [
        ["connections", "import", "--overwrite", str(folder / "connections.json")],
        ["pools", "import", str(folder / "pools.json")],
        ["variables", "import", "--action-on-existing-key", "skip", str(folder / "variables.json")],
    ]


def _connection(entry: Mapping[str, Any]) -> dict[str, Any]:
    fields = ("conn_type", "host", "schema", "login", "password", "port")
    names = {field: field if field == "conn_type" else f"conn_{field}" for field in fields}
    return {field: entry.get(name) for field, name in names.items()} | {"extra": entry.get("conn_extra") or {}}
