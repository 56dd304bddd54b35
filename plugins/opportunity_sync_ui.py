"""The pages "Opportunity sync" in Airflow's UI: the one file of `plugins/` that Airflow loads as a plugin.

Airflow loads it in every process, also in those that run tasks, so the app and all it needs are imported only when the
API server asks for it.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin

PATH = "opportunity-sync"


class OpportunitySyncPages(AirflowPlugin):
    """A FastAPI app and the entry in the navigation that leads to it."""

    name = "opportunity_sync_pages"
    # Without `url_route` the entry opens the pages in a tab of their own: inside Airflow's frame, whose sandbox lets
    # nothing out, links to runs would be dead. It is in the menu Browse because Airflow 3.3 draws such an entry as a
    # button that does nothing when it stands in the bar itself. Addresses are relative to Airflow's, for its prefix.
    external_views = [  # noqa: RUF012 (as Airflow declares it)
        {
            "name": "Opportunity sync",
            "href": f"{PATH}/",
            "destination": "nav",
            "category": "browse",
            "icon": f"{PATH}/icon.svg",
        }
    ]

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]  # read on the plugin's one instance
        """The app, made when the API server mounts it."""
        from opportunity_sync.pages.access import dag_of_run, may_read_the_dag
        from opportunity_sync.pages.app import MOUNT, create_app

        return [{"app": create_app(may_read_the_dag, dag_of_run), "url_prefix": MOUNT, "name": "Opportunity sync"}]
