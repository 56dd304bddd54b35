"""A running stand-in for Marketo with a few leads, and a plain HTTPS client with a token."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from emulator.marketo.server import MarketoEmulator, running

LEADS = [
    {"dynamicsContactId": "c1", "externalPersonId": "c1", "email": "ada@example.com", "lastName": "One"},
    {"dynamicsContactId": "c2", "externalPersonId": "c2", "email": "bo@example.com", "lastName": "Two"},
    {"email": "Ada@Example.com", "lastName": "Form"},
]
ADA, BO, FORM = 1001, 1002, 1003
"""Ids the leads get."""


class Api:
    """Calls to one stand-in."""

    def __init__(self, emulator: MarketoEmulator) -> None:
        self.emulator = emulator
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = emulator.ca_bundle
        self.login()

    def token(self, **changes: str) -> requests.Response:
        parameters = {
            "grant_type": "client_credentials",
            "client_id": self.emulator.client_id,
            "client_secret": self.emulator.client_secret,
            **changes,
        }
        return self.session.get(f"{self.emulator.url}/identity/oauth/token", params=parameters, timeout=20)

    def login(self) -> None:
        self.session.headers["Authorization"] = f"Bearer {self.token().json()['access_token']}"

    def raw(self, method: str, path: str, **options: Any) -> requests.Response:
        options.setdefault("timeout", 20)
        return self.session.request(method, f"{self.emulator.url}/rest/v1/{path}", **options)

    def get(self, path: str, **parameters: Any) -> dict[str, Any]:
        return self._document(self.raw("GET", path, params=parameters))

    def post(self, path: str, body: Any = None, **options: Any) -> dict[str, Any]:
        return self._document(self.raw("POST", path, json=body, **options))

    @staticmethod
    def _document(response: requests.Response) -> dict[str, Any]:
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        assert document["success"] is ("errors" not in document)
        return document

    def code(self, document: Mapping[str, Any]) -> int:
        """The code of a refused request."""
        assert document["success"] is False, document
        assert "result" not in document
        return int(document["errors"][0]["code"])

    def sync(self, path: str, records: Sequence[Mapping[str, Any]], **body: Any) -> list[str]:
        """What became of each record: a status, or the code of its skip."""
        return self._outcomes(self.post(f"{path}.json", {**body, "input": records}))

    def delete(self, path: str, keys: Sequence[Mapping[str, Any]], **body: Any) -> list[str]:
        return self._outcomes(self.post(f"{path}/delete.json", {**body, "input": keys}))

    def _outcomes(self, document: Mapping[str, Any]) -> list[str]:
        assert document["success"], document
        outcomes = []
        for item in document["result"]:
            assert ("reasons" in item) == (item["status"] == "skipped")
            outcomes.append(item["reasons"][0]["code"] if "reasons" in item else item["status"])
        return outcomes

    def control(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, Any]]:
        url = f"{self.emulator.url}/_control/{path}"
        response = self.session.request(method, url, json=body, headers={"Authorization": ""}, timeout=20)
        return response.status_code, response.json()


@pytest.fixture
def launch(tmp_path: Path, tls: Path) -> Iterator[Callable[..., Api]]:
    """Starts stand-ins that end with the test; every option of `running` may be given."""
    (tmp_path / "leads.json").write_text(json.dumps(LEADS))
    with ExitStack() as stack:

        def begin(**options: Any) -> Api:
            options.setdefault("leads", tmp_path / "leads.json")
            api = Api(stack.enter_context(running(tls_dir=tls, **options)))
            stack.callback(api.session.close)
            return api

        yield begin


@pytest.fixture
def api(launch: Callable[..., Api]) -> Api:
    return launch()


@pytest.fixture
def deal(api: Api) -> dict[str, str]:
    """An opportunity that is there."""
    assert api.sync("opportunities", [{"externalOpportunityId": "o1", "name": "Chairs"}]) == ["created"]
    return {"externalOpportunityId": "o1"}
