"""A running stand-in with a handful of rows, and a plain HTTPS client with a real token."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msal
import pytest
import requests

from emulator.server import Emulator, running

ACCOUNT, OTHER_ACCOUNT = "00000000-0000-4000-8000-00000000a001", "00000000-0000-4000-8000-00000000a002"
CONTACT, OTHER_CONTACT = "00000000-0000-4000-8000-00000000c001", "00000000-0000-4000-8000-00000000c002"
ROLE = "00000000-0000-4000-8000-00000000b001"
LOOKUP_TYPE = "@Microsoft.Dynamics.CRM.lookuplogicalname"
FORMATTED = "@OData.Community.Display.V1.FormattedValue"


def opportunity_id(number: int) -> str:
    return f"00000000-0000-4000-8000-0000000d{number:04x}"


def write_seed(directory: Path, opportunities: int = 12) -> Path:
    """Seed files written as text, so that the digits of numbers are under the test's control."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(1, opportunities + 1):
        customer, kind = (ACCOUNT, "account") if number % 2 else (CONTACT, "contact")
        rows.append(
            f'{{"opportunityid": "{opportunity_id(number)}", "name": "Deal {number:02}", '
            f'"statecode": {number % 3}, '
            f'"statuscode": {number % 3 + 1}, "estimatedvalue": {number}000.1200, "_customerid_value": "{customer}", '
            f'"_customerid_value{LOOKUP_TYPE}": "{kind}", "estimatedclosedate": "2026-03-{number:02}", '
            f'"closeprobability": null, "modifiedon": "2026-01-{number:02}T10:00:00Z", '
            f'"versionnumber": {100 + number}}}'
        )
    (directory / "opportunities.json").write_text("[\n" + ",\n".join(rows) + "\n]")
    documents: dict[str, list[dict[str, Any]]] = {
        "accounts": [{"accountid": ACCOUNT, "name": "Oak & Söhne"}, {"accountid": OTHER_ACCOUNT, "name": "Other"}],
        "contacts": [
            {
                "contactid": CONTACT,
                "fullname": "Ada One",
                "_parentcustomerid_value": ACCOUNT,
                f"_parentcustomerid_value{LOOKUP_TYPE}": "account",
                "new_synctomkto": True,
            },
            {"contactid": OTHER_CONTACT, "fullname": "Bo Two"},
        ],
        "connections": [],
        "connectionroles": [{"connectionroleid": ROLE, "name": "Champion", "category": 1000, "statecode": 0}],
    }
    for name, content in documents.items():
        (directory / f"{name}.json").write_text(json.dumps(content))
    return directory


class Client:
    """Requests to the Web API of one stand-in, relative to the service root."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = emulator.ca_bundle
        self.login()

    def token(self, credential: Any = None, **overrides: str) -> dict[str, Any]:
        """A token answer from MSAL."""
        app = msal.ConfidentialClientApplication(
            overrides.get("client_id", self.emulator.client_id),
            authority=overrides.get("authority", self.emulator.authority),
            client_credential=credential or self.emulator.client_secret,
            instance_discovery=False,
            http_client=self.session,
        )
        answer: dict[str, Any] = app.acquire_token_for_client([f"{self.emulator.url}/.default"])
        return answer

    def login(self) -> None:
        self.session.headers["Authorization"] = f"Bearer {self.token()['access_token']}"

    def call(self, method: str, path: str, *, prefer: str = "", **options: Any) -> requests.Response:
        url = path if path.startswith("https://") else f"{self.emulator.url}/api/data/v9.2/{path}"
        headers = {**({"Prefer": prefer} if prefer else {}), **options.pop("headers", {})}
        return self.session.request(method, url, headers=headers, timeout=20, **options)

    def get(self, path: str, *, prefer: str = "", **options: Any) -> requests.Response:
        return self.call("GET", path, prefer=prefer, **options)

    def json(self, path: str, *, prefer: str = "") -> dict[str, Any]:
        response = self.get(path, prefer=prefer)
        assert response.status_code == 200, response.text
        document: dict[str, Any] = response.json()
        return document

    def pages(self, path: str, *, prefer: str = "") -> list[dict[str, Any]]:
        """All pages, links followed as they are."""
        found = [self.json(path, prefer=prefer)]
        while "@odata.nextLink" in found[-1]:
            found.append(self.json(found[-1]["@odata.nextLink"], prefer=prefer))
        return found

    def refused(self, path: str, *, prefer: str = "", method: str = "GET", **options: Any) -> tuple[int, str, str]:
        """Status, Dataverse code and message of a refusal."""
        response = self.call(method, path, prefer=prefer, **options)
        assert response.status_code >= 400, response.text
        error = response.json()["error"]
        return response.status_code, error["code"], error["message"]


@pytest.fixture
def seed(tmp_path: Path) -> Path:
    return write_seed(tmp_path / "seed")


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates shared by the tests (making keys takes longer than most tests)."""
    return tmp_path_factory.mktemp("tls")


@pytest.fixture
def start(seed: Path, tls: Path) -> Iterator[Callable[..., Client]]:
    """Starts stand-ins that end with the test; every option of `running` may be given."""
    with ExitStack() as stack:

        def begin(**options: Any) -> Client:
            data = options.pop("data", seed)
            client = Client(stack.enter_context(running(data, **{"tls_dir": tls, **options})))
            stack.callback(client.session.close)
            return client

        yield begin


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory, tls: Path) -> Iterator[Client]:
    """One stand-in for all tests of a module that only read."""
    with running(write_seed(tmp_path_factory.mktemp("seed")), tls_dir=tls) as emulator:
        found = Client(emulator)
        yield found
        found.session.close()


@pytest.fixture
def client(start: Callable[..., Client]) -> Client:
    return start()
