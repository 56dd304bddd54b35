"""Microsoft's SDK: `python -m benchmarks.competitors.sdk URL CA FOLDER` writes the table as one Parquet file.

`list_pages` streams page by page, so memory stays bounded. Of several ways from its records to Parquet the fastest
found is used: one Python list per column, handed to Arrow with the column's type.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msal
import pyarrow as pa
import pyarrow.parquet as pq
from azure.core.credentials import AccessToken
from PowerPlatform.Dataverse.client import DataverseClient

from benchmarks.columns import OPPORTUNITY
from benchmarks.pages import ANNOTATION, PAGE_SIZE
from benchmarks.server import CLIENT_ID, CLIENT_SECRET, TENANT

TIME = pa.timestamp("us")
# How a value arrives in JSON, and by which casts it gets its type in Parquet.
ARROW: dict[str, tuple[pa.DataType, ...]] = {
    "UUID": (pa.string(), pa.uuid()),
    "VARCHAR": (pa.string(),),
    "INTEGER": (pa.int32(),),
    "BIGINT": (pa.int64(),),
    "BOOLEAN": (pa.bool_(),),
    "DECIMAL(19,4)": (pa.float64(), pa.decimal128(19, 4)),
    "DECIMAL(38,10)": (pa.float64(), pa.decimal128(38, 10)),
    "TIMESTAMP": (pa.string(), pa.timestamp("us", tz="UTC"), TIME),
    "DATE": (pa.string(), pa.date32()),
}
NO_ID = "00000000-0000-0000-0000-000000000000"


def array_of(values: list[Any], types: tuple[pa.DataType, ...]) -> pa.Array:
    """One column of a page."""
    if types[-1] == pa.uuid():
        # All ids of the page are decoded in one go, which is several times faster than one by one.
        ids = bytes.fromhex("".join([value or NO_ID for value in values]).replace("-", ""))
        present = pa.array([value is not None for value in values]).buffers()[1]
        storage = pa.Array.from_buffers(pa.binary(16), len(values), [present, pa.py_buffer(ids)])
        return pa.ExtensionArray.from_storage(pa.uuid(), storage)
    array = pa.array(values, types[0])
    for each in types[1:]:
        array = array.cast(each)
    return array


class Credential:
    """Gets a token with MSAL, as `azure.identity.ClientSecretCredential` does."""

    def __init__(self, url: str) -> None:
        self._app = msal.ConfidentialClientApplication(
            CLIENT_ID, client_credential=CLIENT_SECRET, authority=f"{url}/{TENANT}", instance_discovery=False
        )

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        """The token; MSAL keeps it in memory."""
        found = self._app.acquire_token_for_client(scopes=list(scopes))
        return AccessToken(found["access_token"], int(time.time()) + found["expires_in"])


def main() -> None:
    """Extract all opportunities."""
    url, ca_bundle, folder = sys.argv[1:]
    os.environ["REQUESTS_CA_BUNDLE"] = ca_bundle  # the SDK has no setting of its own
    started = time.perf_counter()
    path = Path(folder) / "opportunity.parquet"
    path.parent.mkdir(parents=True)
    fields: list[tuple[str, str, tuple[pa.DataType, ...]]] = []
    for column in OPPORTUNITY:
        fields.append((column.name, column.api_name, ARROW[column.duckdb_type]))
        if column.several_targets:
            fields.append((f"{column.name}_type", f"{column.api_name}@{ANNOTATION}", ARROW["VARCHAR"]))
    own = [("_extracted_at", TIME), ("_page", pa.int32())]
    schema = pa.schema([*((name, types[-1]) for name, _, types in fields), *own])
    rows = 0
    with (
        DataverseClient(url, Credential(url)) as client,
        pq.ParquetWriter(path, schema, compression="zstd") as writer,
    ):
        pages: Iterable[Any] = client.records.list_pages(
            "opportunity",
            select=[column.api_name for column in OPPORTUNITY],
            page_size=PAGE_SIZE,
            include_annotations=ANNOTATION,
        )
        for number, page in enumerate(pages, 1):
            records = [record.data for record in page]
            arrays = [array_of([record.get(key) for record in records], types) for _, key, types in fields]
            arrays.append(pa.repeat(pa.scalar(datetime.now(UTC).replace(tzinfo=None), TIME), len(records)))
            arrays.append(pa.repeat(pa.scalar(number, pa.int32()), len(records)))
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            rows += len(records)
    print(json.dumps({"seconds": time.perf_counter() - started, "rows": rows, "parquet": str(path)}))


if __name__ == "__main__":
    main()
