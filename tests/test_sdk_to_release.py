"""What Microsoft's own SDK writes into the stand-in is exactly what the next release holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import msal
import pytest
import requests
from azure.core.credentials import AccessToken
from PowerPlatform.Dataverse.client import DataverseClient

from emulator.server import Emulator
from opportunity_sync.data_root import DataRoot
from tests.pipeline import run_once
from tests.stand_in import credentials_of


class Credential:
    """A token of the stand-in's authority, for Microsoft's SDK."""

    def __init__(self, organisation: Emulator) -> None:
        session = requests.Session()
        session.verify = organisation.ca_bundle
        self._application = msal.ConfidentialClientApplication(
            organisation.client_id,
            client_credential=organisation.client_secret,
            authority=organisation.authority,
            instance_discovery=False,
            http_client=session,
        )

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        answer = self._application.acquire_token_for_client(scopes=list(scopes))
        return AccessToken(answer["access_token"], answer["expires_in"])


def opportunities(data: Path) -> dict[str, tuple[Any, ...]]:
    with duckdb.connect(str(DataRoot(data).live_file), read_only=True) as connection:
        rows = connection.execute("select opportunity_id, name, estimated_value, state from opportunities").fetchall()
    return {str(row[0]): row[1:] for row in rows}


@pytest.mark.slow
def test_rows_written_by_the_sdk_are_the_difference_between_two_releases(
    organisation: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = credentials_of(organisation)
    run_once(tmp_path, credentials)
    before = opportunities(tmp_path)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", organisation.ca_bundle)
    monkeypatch.delenv("CURL_CA_BUNDLE", raising=False)
    changed, deleted = sorted(before)[:2]
    with DataverseClient(base_url=organisation.url, credential=Credential(organisation)) as sdk:
        created = sdk.records.create("opportunity", {"name": "From the SDK", "estimatedvalue": 12.5})
        short_lived = sdk.records.create("opportunity", {"name": "Gone before anyone looked"})
        sdk.records.update("opportunity", changed, {"name": "Changed by the SDK"})
        sdk.records.delete("opportunity", deleted)
        sdk.records.delete("opportunity", short_lived)
    run_once(tmp_path, credentials)
    after = opportunities(tmp_path)
    assert after.keys() - before.keys() == {created}
    assert before.keys() - after.keys() == {deleted}
    assert (after[created][0], float(after[created][1])) == ("From the SDK", 12.5)
    assert {key for key in before.keys() & after.keys() if before[key] != after[key]} == {changed}
    assert after[changed][0] == "Changed by the SDK"
