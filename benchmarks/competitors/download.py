"""Only download: `python -m benchmarks.competitors.download URL CA SELECT` follows the pages and keeps nothing."""

from __future__ import annotations

import json
import re
import sys
import time

import requests


def main() -> None:
    """Download all pages."""
    url, ca_bundle, select = sys.argv[1:]
    started = time.perf_counter()
    link: str | None = f"{url}/api/data/v9.2/opportunities?$select={select}"
    total = pages = 0
    with requests.Session() as session:
        session.headers["Prefer"] = "odata.maxpagesize=5000"
        while link:
            body = session.get(link, verify=ca_bundle, timeout=120).content
            total += len(body)
            pages += 1
            found = re.search(rb'"@odata\.nextLink":"([^"]+)"', body[-4000:])
            link = found[1].decode() if found else None
    print(json.dumps({"seconds": time.perf_counter() - started, "bytes": total, "pages": pages}))


if __name__ == "__main__":
    main()
