"""dlt: `python dlt_pipeline.py URL CA FOLDER COLUMNS` loads the table as Parquet files; runs in a venv of its own.

A `rest_client` source and the filesystem destination, as dlt's documentation shows for REST APIs. What makes it faster
without leaving that road is set: explicit paginator and data selector, no nested tables, no row ids, intermediate files
not compressed (`DLT_SETTINGS` in `benchmarks/peers.py`).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import dlt
from dlt.destinations import filesystem
from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from dlt.sources.helpers.rest_client.paginators import JSONLinkPaginator

# mypy: disable-error-code="import-not-found, untyped-decorator"

ANNOTATION = "Microsoft.Dynamics.CRM.lookuplogicalname"


def main() -> None:
    """Extract all opportunities."""
    url, ca_bundle, folder, columns = sys.argv[1:]
    os.environ["REQUESTS_CA_BUNDLE"] = ca_bundle
    started = time.perf_counter()
    client = RESTClient(
        base_url=f"{url}/api/data/v9.2/",
        headers={"Prefer": f'odata.maxpagesize=5000,odata.include-annotations="{ANNOTATION}"'},
        auth=OAuth2ClientCredentials(
            access_token_url=f"{url}/bench/oauth2/v2.0/token",
            client_id="bench",
            client_secret="bench",  # noqa: S106  the server accepts any
            access_token_request_data={"scope": f"{url}/.default"},
        ),
        paginator=JSONLinkPaginator(next_url_path="['@odata.nextLink']"),
        data_selector="value",
    )

    @dlt.resource(name="opportunities", max_table_nesting=0, write_disposition="replace")
    def opportunities() -> Iterator[Any]:
        yield from client.paginate("opportunities", params={"$select": columns})

    pipeline = dlt.pipeline(
        "benchmark", destination=filesystem(bucket_url=folder), dataset_name="raw", pipelines_dir=f"{folder}/.dlt"
    )
    pipeline.run(opportunities(), loader_file_format="parquet")
    seconds = time.perf_counter() - started
    steps = {name: step["finished_at"].isoformat() for name, step in _steps(pipeline)}
    print(json.dumps({"seconds": seconds, "steps": steps, "parquet": f"{folder}/raw/opportunities/*.parquet"}))


def _steps(pipeline: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    for step in pipeline.last_trace.steps:
        yield step.step, {"finished_at": step.finished_at}


if __name__ == "__main__":
    main()
