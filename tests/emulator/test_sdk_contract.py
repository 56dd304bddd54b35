"""The stand-in against Microsoft's own Python SDK: it is not tuned to our client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from PowerPlatform.Dataverse.client import DataverseClient
from PowerPlatform.Dataverse.core.errors import HttpError

pytestmark = pytest.mark.slow


class MsalCredential:
    """An azure.core TokenCredential that fetches a real token from the stand-in through MSAL."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        assert scopes == (f"{self._client.emulator.url}/.default",)
        answer = self._client.token()
        return AccessToken(answer["access_token"], answer["expires_in"])


@pytest.fixture
def sdk(client: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataverseClient]:
    """Microsoft's client on the stand-in of the fixture `client`; it takes the CA from the environment."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", client.emulator.ca_bundle)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    with DataverseClient(base_url=client.emulator.url, credential=MsalCredential(client)) as found:
        yield found


def test_the_sdk_creates_reads_updates_and_deletes_a_row(sdk: DataverseClient, client: Any) -> None:
    made = sdk.records.create("opportunity", {"name": "From the SDK", "estimatedvalue": 12.5, "salesstage": "Propose"})
    row = client.emulator.store.row("opportunity", made)
    assert (row["name"], row["estimatedvalue"], row["salesstage"]) == ("From the SDK", 12.5, 2)
    sdk.records.update("opportunity", made, {"name": "Changed by the SDK"})
    found = sdk.records.retrieve("opportunity", made, select=["name", "versionnumber"])
    assert found["name"] == "Changed by the SDK"
    assert found["versionnumber"] == client.emulator.store.row("opportunity", made)["versionnumber"]
    sdk.records.delete("opportunity", made)
    assert client.emulator.store.row("opportunity", made) is None


def test_the_sdk_reads_all_pages(sdk: DataverseClient, client: Any) -> None:
    pages = list(sdk.records.list_pages("opportunity", select=["name"], page_size=5))
    assert [len(list(page)) for page in pages] == [5, 5, 2]
    assert {row["name"] for page in pages for row in page} == {f"Deal {n:02}" for n in range(1, 13)}
    prefers = [item.headers.get("prefer") for item in client.emulator.requests if item.path.endswith("/opportunities")]
    assert prefers == ["odata.maxpagesize=5"] * 3


def test_the_sdk_filters_and_orders(sdk: DataverseClient) -> None:
    options = {"filter": "statecode eq 1", "orderby": ["name desc"], "top": 2}
    rows = [row for page in sdk.records.list_pages("opportunity", select=["name"], **options) for row in page]
    assert [row["name"] for row in rows] == ["Deal 10", "Deal 07"]


def test_the_sdk_creates_and_updates_many_rows(sdk: DataverseClient, client: Any) -> None:
    ids = sdk.records.create("contact", [{"firstname": "A", "lastname": str(n)} for n in range(3)])
    assert len(ids) == 3
    sdk.records.update("contact", ids, {"jobtitle": "Buyer"})
    rows = [client.emulator.store.row("contact", row_id) for row_id in ids]
    assert [(row["fullname"], row["jobtitle"]) for row in rows] == [(f"A {n}", "Buyer") for n in range(3)]


def test_the_sdk_understands_refusals(sdk: DataverseClient) -> None:
    with pytest.raises(HttpError) as caught:
        sdk.records.create("opportunity", {"nonesuch": 1})
    assert caught.value.status_code == 400
    assert "nonesuch" in str(caught.value)


def test_a_delta_reader_sees_exactly_what_the_sdk_did(sdk: DataverseClient, client: Any) -> None:
    link = client.json("opportunities?$select=name", prefer="odata.track-changes")["@odata.deltaLink"]
    first, second = sdk.records.create("opportunity", [{"name": "kept"}, {"name": "dropped"}])
    sdk.records.update("opportunity", "00000000-0000-4000-8000-0000000d0001", {"name": "renamed"})
    sdk.records.delete("opportunity", second)
    items = client.json(link)["value"]
    assert [item["name"] for item in items if "name" in item] == ["kept", "renamed"]
    assert [item["id"] for item in items if "reason" in item] == [second]
    assert items[0]["opportunityid"] == first
