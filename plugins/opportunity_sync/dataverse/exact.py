"""Request targets sent byte for byte.

Paging and delta links hold an encoded cookie that must come back unchanged. `requests` and `urllib3` both normalise
URLs (`%7E` becomes `~`, `%2f` becomes `%2F`), so the target travels beside the URL and replaces it on the connection.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_HEADER = "X-Exact-Target"
"""Carries the target from the adapter to the connection; never sent."""


class ExactAdapter(HTTPAdapter):
    """Sends `PreparedRequest.url` as it was set after preparing the request."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Use connections that send the exact target."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Use connections that send the exact target, through a proxy as well."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request; its `url` is absolute."""
        parts = urlsplit(str(request.url))
        request.headers[_HEADER] = f"{parts.path}?{parts.query}" if parts.query else parts.path
        return super().send(request, *args, **kwargs)


def _exact(url: str, headers: Any) -> tuple[str, dict[str, str]]:
    kept = dict(headers or {})
    return kept.pop(_HEADER, url), kept


class _Connection(HTTPConnection):
    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **kwargs: Any) -> None:
        target, kept = _exact(url, headers)
        super().request(method, target, body=body, headers=kept, **kwargs)


class _SecureConnection(HTTPSConnection):
    def request(self, method: str, url: str, body: Any = None, headers: Any = None, **kwargs: Any) -> None:
        target, kept = _exact(url, headers)
        super().request(method, target, body=body, headers=kept, **kwargs)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS = {"http": _Pool, "https": _SecurePool}
