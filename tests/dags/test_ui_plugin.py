"""The plugin as Airflow loads it: once, alone, and without what only the API server needs."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from opportunity_sync.settings import PROJECT

pytestmark = pytest.mark.slow

LOADED = """
import json, sys
from pathlib import Path
from airflow import plugins_manager
plugins, errors = plugins_manager._get_plugins()
ours = [plugin for plugin in plugins if str(plugin.source).startswith("$PLUGINS_FOLDER")]
folder = Path(sys.argv[1]) / "plugins"
of_project = sorted(
    name for name, module in list(sys.modules.items())
    if (file := getattr(module, "__file__", None)) and folder in Path(file).parents
)
before_the_app = of_project + [name for name in ("airflow.api_fastapi.core_api.security",) if name in sys.modules]
apps, _ = plugins_manager.get_fastapi_plugins()
again, _ = plugins_manager.get_fastapi_plugins()
print(json.dumps({
    "ours": [[plugin.name, str(plugin.source)] for plugin in ours],
    "errors": errors,
    "before_the_app": before_the_app,
    "prefixes": [app["url_prefix"] for app in apps],
    "same_app": all(one["app"] is other["app"] for one, other in zip(apps, again)),
    "views": [view for plugin in ours for view in plugin.external_views],
}))
"""


def test_airflow_loads_this_one_plugin_once_and_imports_the_pages_only_for_the_api_server() -> None:
    command = [sys.executable, "-W", "ignore", "-c", LOADED, str(PROJECT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = msgspec.json.decode(done.stdout.splitlines()[-1])
    assert found["ours"] == [["opportunity_sync_pages", "$PLUGINS_FOLDER/opportunity_sync_ui.py"]]
    assert found["errors"] == {}
    assert found["before_the_app"] == ["opportunity_sync_ui"]
    assert found["prefixes"] == ["/opportunity-sync"]
    assert found["same_app"]
    (view,) = found["views"]
    assert (view["name"], view["href"], view["destination"]) == ("Opportunity sync", "opportunity-sync/", "nav")
