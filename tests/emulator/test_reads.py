from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pytest
import requests

pytestmark = pytest.mark.slow

FORMATTED = "@OData.Community.Display.V1.FormattedValue"
LOOKUP_TYPE = "@Microsoft.Dynamics.CRM.lookuplogicalname"
NAVIGATION = "@Microsoft.Dynamics.CRM.associatednavigationproperty"


def _names(reader: Any, filter_text: str) -> list[str]:
    return [
        row["name"][-2:] for row in reader.json(f"opportunities?$select=name&$filter={quote(filter_text)}")["value"]
    ]


def test_who_am_i_names_the_same_organisation_after_a_restart(start: Callable[..., Any], tmp_path: Any) -> None:
    first = start(state_dir=tmp_path / "state").json("WhoAmI")
    second = start(state_dir=tmp_path / "state").json("WhoAmI")
    other = start().json("WhoAmI")
    assert first["OrganizationId"] == second["OrganizationId"] != other["OrganizationId"]


def test_pages_follow_the_asked_size_and_lose_nothing(reader: Any) -> None:
    pages = reader.pages("opportunities?$select=name", prefer="odata.maxpagesize=5")
    assert [len(page["value"]) for page in pages] == [5, 5, 2]
    assert [row["name"] for page in pages for row in page["value"]] == [f"Deal {n:02}" for n in range(1, 13)]
    assert [list(page)[-1] for page in pages] == ["@odata.nextLink", "@odata.nextLink", "value"]


def test_the_server_may_give_smaller_pages_than_asked(start: Callable[..., Any]) -> None:
    client = start(page_size=4)
    assert len(client.json("opportunities", prefer="odata.maxpagesize=5000")["value"]) == 4


def test_a_next_link_is_absolute_and_has_dataverses_form(reader: Any) -> None:
    link = reader.json("opportunities?$select=name", prefer="odata.maxpagesize=5")["@odata.nextLink"]
    prefix = f"{reader.emulator.url}/api/data/v9.2/opportunities?$select=name&$skiptoken="
    assert link.startswith(
        prefix + "%3Ccookie%20pagenumber=%222%22%20pagingcookie=%22%253ccookie%2520page%253d%25221%2522"
    )
    assert link.endswith("%20istracking=%22False%22%20/%3E")


@pytest.mark.parametrize(
    "change",
    [
        lambda token: quote(unquote(token)),
        lambda token: quote(unquote(token), safe=""),
        lambda token: token.replace("%20", "+"),
        lambda token: token.replace("%253c", "%253C"),
        lambda token: token.replace("=", "%3D"),
        lambda token: "rubbish",
    ],
)
def test_a_cookie_that_was_decoded_and_encoded_again_is_refused(reader: Any, change: Callable[[str], str]) -> None:
    link = reader.json("opportunities", prefer="odata.maxpagesize=5")["@odata.nextLink"]
    head, _, token = link.partition("$skiptoken=")
    assert reader.get(link).status_code == 200
    changed = change(token)
    assert changed != token
    prepared = requests.Request("GET", link, headers=dict(reader.session.headers)).prepare()
    prepared.url = f"{head}$skiptoken={changed}"
    response = reader.session.send(prepared, verify=reader.emulator.ca_bundle, timeout=20)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "0x80060888")


def test_a_link_taken_apart_into_parameters_is_refused(reader: Any) -> None:
    link = reader.json("opportunities", prefer="odata.maxpagesize=5")["@odata.nextLink"]
    parts = urlsplit(link)
    response = reader.get("opportunities", params=dict(parse_qsl(parts.query)))
    assert response.status_code == 400


def test_select_gives_the_named_columns_and_always_the_key(reader: Any) -> None:
    document = reader.json("opportunities?$select=name,statecode&$top=1")
    assert list(document["value"][0]) == ["@odata.etag", "name", "statecode", "opportunityid"]
    assert document["@odata.context"].endswith("$metadata#opportunities(name,statecode)")


def test_an_unknown_column_is_refused_with_its_name(reader: Any) -> None:
    assert reader.refused("opportunities?$select=name,nonesuch") == (
        400,
        "0x80060888",
        "Could not find a property named 'nonesuch' on type 'Microsoft.Dynamics.CRM.opportunity'.",
    )
    assert reader.refused("opportunities?$select=customerid")[1] == "0x80060888"  # the lookup is _customerid_value


def test_numbers_keep_the_digits_they_have(reader: Any) -> None:
    assert '"estimatedvalue":1000.1200,' in reader.get("opportunities?$select=estimatedvalue&$top=1").text


def test_some_null_keys_are_absent_and_the_others_null_and_always_the_same_ones(reader: Any) -> None:
    path = "opportunities?$select=closeprobability,description,stepname,actualvalue"
    rows = reader.json(path)["value"]
    shown = [key for row in rows for key in row if key not in ("@odata.etag", "opportunityid")]
    assert all(row[key] is None for row in rows for key in row if key not in ("@odata.etag", "opportunityid"))
    assert 0 < len(shown) < 4 * len(rows)
    assert reader.json(path)["value"] == rows


def test_the_etag_is_the_version(reader: Any) -> None:
    row = reader.json("opportunities?$select=versionnumber&$top=1")["value"][0]
    assert row["versionnumber"] == 101
    assert row["@odata.etag"] == 'W/"101"'


def test_only_annotations_asked_for_are_sent(reader: Any) -> None:
    path = "opportunities?$select=_customerid_value,statecode,estimatedvalue,estimatedclosedate,modifiedon&$top=1"

    def annotations(prefer: str) -> dict[str, str]:
        row = reader.json(path, prefer=prefer)["value"][0]
        return {key: value for key, value in row.items() if "@" in key[1:]}

    assert annotations("") == {}
    assert annotations('odata.include-annotations="Microsoft.Dynamics.CRM.lookuplogicalname"') == {
        f"_customerid_value{LOOKUP_TYPE}": "account"
    }
    assert annotations('odata.include-annotations="*"') == {
        f"_customerid_value{LOOKUP_TYPE}": "account",
        f"_customerid_value{NAVIGATION}": "customerid_account",
        f"statecode{FORMATTED}": "Won",
        f"estimatedvalue{FORMATTED}": "$1,000.12",
        f"estimatedclosedate{FORMATTED}": "3/1/2026",
        f"modifiedon{FORMATTED}": "1/1/2026 10:00 AM",
    }
    two = 'odata.include-annotations="Microsoft.Dynamics.CRM.*"'
    assert annotations(two).keys() == {f"_customerid_value{LOOKUP_TYPE}", f"_customerid_value{NAVIGATION}"}


def test_several_preferences_share_a_header_and_are_confirmed(reader: Any) -> None:
    prefer = 'odata.maxpagesize=9000,odata.include-annotations="a.b,c.d"; odata.track-changes'
    applied = reader.get("accounts", prefer=prefer).headers["Preference-Applied"]
    assert applied == 'odata.maxpagesize=5000,odata.include-annotations="a.b,c.d",odata.track-changes'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name eq 'deal 03'", ["03"]),
        ("name eq 'O''Brien'", []),
        ("statecode eq 1 and closeprobability eq null", ["01", "04", "07", "10"]),
        ("not (statecode eq 1 or statecode eq 2)", ["03", "06", "09", "12"]),
        ("closeprobability ne null", []),
        ("closeprobability ne 5 and statecode eq 2", ["02", "05", "08", "11"]),
        ("estimatedvalue gt 10000.11", ["10", "11", "12"]),
        ("estimatedvalue le 2000.12", ["01", "02"]),
        ("_customerid_value eq 00000000-0000-4000-8000-00000000A001", ["01", "03", "05", "07", "09", "11"]),
        ("_customerid_value eq 'no'", []),
        ("opportunityid eq 00000000-0000-4000-8000-0000000d0002", ["02"]),
        ("modifiedon ge 2026-01-11T10:00:00Z", ["11", "12"]),
        ("modifiedon gt 2026-01-11T10:00:00.000Z", ["12"]),
        ("modifiedon lt 2026-01-02T12:30:00+02:00", ["01", "02"]),
        ("modifiedon lt 2026-01-03", ["01", "02"]),
        ("estimatedclosedate ge 2026-03-11", ["11", "12"]),
        ("versionnumber gt 110", ["11", "12"]),
        ("contains(name,'al 1')", ["10", "11", "12"]),
        ("startswith(name,'deal 0') and endswith(name,'9')", ["09"]),
    ],
)
def test_a_filter_finds_the_rows_it_describes(reader: Any, text: str, expected: list[str]) -> None:
    assert _names(reader, text) == expected


def test_a_filtered_read_goes_on_over_its_pages(reader: Any) -> None:
    pages = reader.pages("opportunities?$select=name&$filter=statecode%20ne%200", prefer="odata.maxpagesize=3")
    assert [len(page["value"]) for page in pages] == [3, 3, 2]


@pytest.mark.parametrize(
    "text", ["statecode eq", "nonesuch eq 1", "statecode eq 'x'", "modifiedon eq 5", "name gt null"]
)
def test_a_wrong_filter_is_refused(reader: Any, text: str) -> None:
    assert reader.refused(f"opportunities?$filter={quote(text)}")[:2] == (400, "0x80060888")


def test_orderby_top_and_count(reader: Any) -> None:
    document = reader.json("opportunities?$select=name&$orderby=statecode desc,name&$top=3&$count=true")
    assert [row["name"] for row in document["value"]] == ["Deal 02", "Deal 05", "Deal 08"]
    assert document["@odata.count"] == 12
    assert "@odata.nextLink" not in document
    pages = reader.pages("opportunities?$select=name&$orderby=name desc", prefer="odata.maxpagesize=7")
    assert [row["name"] for page in pages for row in page["value"]] == [f"Deal {n:02}" for n in range(12, 0, -1)]
    assert reader.get("opportunities/$count?$filter=statecode eq 1").text == "4"


def test_one_row_by_its_key(reader: Any) -> None:
    row = reader.json("opportunities(00000000-0000-4000-8000-0000000d0003)?$select=name")
    assert row["name"] == "Deal 03"
    assert row["@odata.context"].endswith("$metadata#opportunities(name)/$entity")
    status, code, message = reader.refused("opportunities(00000000-0000-4000-8000-00000000ffff)")
    assert (status, code) == (404, "0x80040217")
    assert "Does Not Exist" in message


@pytest.mark.parametrize(
    ("path", "feature"),
    [
        ("opportunities?$expand=customerid_account", "$expand on rows"),
        ("opportunities?$apply=aggregate(name with max as m)", "$apply"),
        ("opportunities?fetchXml=<fetch/>", "FetchXML"),
        ("$metadata", "$metadata"),
        ("opportunities(00000000-0000-4000-8000-0000000d0003)/name", "/name"),
        ("accounts(accountnumber='1')", "alternate keys"),
        ("opportunities?$filter=year(modifiedon) eq 2026", "year"),
        ("opportunities?$filter=Microsoft.Dynamics.CRM.Today(PropertyName='modifiedon')", "$filter"),
        ("RetrieveTotalRecordCount(EntityNames=['account'])", "RetrieveTotalRecordCount"),
        ("systemusers", "systemusers"),
    ],
)
def test_what_is_not_spoken_says_so_by_name(reader: Any, path: str, feature: str) -> None:
    status, code, message = reader.refused(path)
    assert (status, code) == (501, "0x80060892")
    assert feature in message


def test_batches_and_other_actions_are_not_spoken(reader: Any) -> None:
    for path in ("$batch", "WinOpportunity", "BulkDelete"):
        status, _, message = reader.refused(path, method="POST", data=b"{}")
        assert status == 501
        assert path in message


def test_unknown_things_are_not_found(reader: Any) -> None:
    assert reader.refused("nonesuches") == (404, "0x8006088a", "Resource not found for the segment 'nonesuches'.")
    assert reader.refused("opportunities?$skip=5")[0] == 400
    assert reader.get(f"{reader.emulator.url}/elsewhere").status_code == 404


def test_every_answer_carries_the_service_headers(reader: Any) -> None:
    headers = reader.get("accounts").headers
    assert headers["OData-Version"] == "4.0"
    assert headers["x-ms-dop-hint"] == "4"
    assert re.fullmatch(r"\d,\d{3}\.\d+", headers["x-ms-ratelimit-time-remaining-xrm-requests"])
    assert headers["Content-Type"].startswith("application/json")


def test_requests_are_logged_without_the_token(reader: Any) -> None:
    reader.emulator.clear_requests()
    reader.get("accounts?$select=name", prefer="odata.maxpagesize=3")
    (logged,) = reader.emulator.requests
    assert (logged.method, logged.path, logged.query) == ("GET", "/api/data/v9.2/accounts", "$select=name")
    assert logged.headers["prefer"] == "odata.maxpagesize=3"
    assert "authorization" not in logged.headers


def test_latency_is_added_beside_each_other(start: Callable[..., Any]) -> None:
    import time
    from concurrent.futures import ThreadPoolExecutor

    client = start(latency_ms=300)
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: client.get("WhoAmI").status_code, range(8)))
    assert 0.3 <= time.monotonic() - began < 8 * 0.3
