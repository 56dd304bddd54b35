from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow

ACCOUNT, OTHER_ACCOUNT = "00000000-0000-4000-8000-00000000a001", "00000000-0000-4000-8000-00000000a002"
CONTACT, OTHER_CONTACT = "00000000-0000-4000-8000-00000000c001", "00000000-0000-4000-8000-00000000c002"
ROLE = "00000000-0000-4000-8000-00000000b001"
LOOKUP_TYPE = "@Microsoft.Dynamics.CRM.lookuplogicalname"


def _deal(number: int) -> str:
    return f"00000000-0000-4000-8000-0000000d{number:04x}"


def _post(client: Any, entity_set: str, body: Any) -> str:
    response = client.call("POST", entity_set, json=body)
    assert response.status_code == 204, response.text
    address: str = response.headers["OData-EntityId"]
    assert address.startswith(f"{client.emulator.url}/api/data/v9.2/{entity_set}(")
    return address.rpartition("(")[2].rstrip(")")


def _connect(client: Any, deal: str = _deal(1), contact: str = CONTACT) -> str:
    body = {
        "record1id_opportunity@odata.bind": f"/opportunities({deal})",
        "record2id_contact@odata.bind": f"/contacts({contact})",
        "record2roleid@odata.bind": f"/connectionroles({ROLE})",
    }
    return _post(client, "connections", body)


def test_a_created_row_has_what_the_user_gave_and_what_the_server_adds(client: Any) -> None:
    body = (
        '{"name": "Räder & <b>", "estimatedvalue": 10.5000, "exchangerate": 2.0, '
        f'"customerid_contact@odata.bind": "/contacts({CONTACT})"}}'
    )
    response = client.call("POST", "opportunities", data=body.encode(), prefer="return=representation")
    assert response.status_code == 201
    assert response.headers["Preference-Applied"] == "return=representation"
    row = response.json()
    assert row["name"] == "Räder & <b>"
    assert '"estimatedvalue":10.5000,' in response.text
    assert row["estimatedvalue_base"] == 5.25
    assert (row["_customerid_value"], row["_contactid_value"]) == (CONTACT, CONTACT)
    assert (row["statecode"], row["statuscode"]) == (0, 1)
    assert row["createdon"] == row["modifiedon"]
    assert row["versionnumber"] == client.emulator.store.version


def test_versions_grow_over_the_whole_organisation(client: Any) -> None:
    before = client.emulator.store.version
    client.emulator.store.update("opportunity", _deal(1), {"name": "x"})
    client.emulator.store.update("account", ACCOUNT, {"name": "y"})
    opportunity = client.emulator.store.row("opportunity", _deal(1))
    account = client.emulator.store.row("account", ACCOUNT)
    assert opportunity["versionnumber"] == before + 1
    assert account["versionnumber"] == before + 2


def test_an_update_changes_what_it_names_and_the_times(client: Any) -> None:
    before = client.emulator.store.row("opportunity", _deal(1))
    assert client.call("PATCH", f"opportunities({_deal(1)})", json={"name": "New"}).status_code == 204
    after = client.emulator.store.row("opportunity", _deal(1))
    assert after["name"] == "New"
    assert after["modifiedon"] > before["modifiedon"]
    assert {key for key in after if after[key] != before.get(key)} >= {"name", "modifiedon", "versionnumber"}
    assert after["estimatedvalue"] == before["estimatedvalue"]


def test_modifiedon_can_be_set_back_and_still_counts_as_a_change(client: Any) -> None:
    before = client.emulator.store.version
    client.emulator.store.update("opportunity", _deal(1), {"modifiedon": "2020-01-01T00:00:00Z"})
    row = client.emulator.store.row("opportunity", _deal(1))
    assert (row["modifiedon"], row["versionnumber"]) == ("2020-01-01T00:00:00Z", before + 1)
    found = client.json("opportunities?$select=name&$filter=modifiedon lt 2021-01-01T00:00:00Z")["value"]
    assert [item["opportunityid"] for item in found] == [_deal(1)]


def test_an_update_of_another_version_is_refused(client: Any) -> None:
    path = f"opportunities({_deal(1)})"
    etag = client.json(path)["@odata.etag"]
    headers = {"If-Match": etag}
    assert client.call("PATCH", path, json={"name": "first"}, headers=headers).status_code == 204
    refused = client.refused(path, method="PATCH", json={"name": "second"}, headers=headers)
    assert refused[:2] == (412, "0x80060882")
    assert client.refused(path, method="DELETE", headers=headers)[0] == 412
    assert client.emulator.store.row("opportunity", _deal(1))["name"] == "first"


def test_an_update_of_a_missing_row_creates_it_unless_it_must_exist(client: Any) -> None:
    path = f"opportunities({_deal(99)})"
    assert client.refused(path, method="PATCH", json={"name": "x"}, headers={"If-Match": "*"})[0] == 404
    assert client.call("PATCH", path, json={"name": "x"}).status_code == 204
    assert client.emulator.store.row("opportunity", _deal(99))["name"] == "x"
    assert client.refused(path, method="PATCH", json={"name": "x"}, headers={"If-None-Match": "*"})[0] == 412


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"nonesuch": 1}, 400, "0x80048d19"),
        ({"_customerid_value": ACCOUNT}, 400, "0x80060888"),
        ({"customerid@odata.bind": f"/accounts({ACCOUNT})"}, 400, "0x80048d19"),
        ({"customerid_account@odata.bind": f"/contacts({CONTACT})"}, 400, "0x80048d19"),
        ({"customerid_account@odata.bind": "nowhere"}, 400, "0x80048d19"),
        ({"customerid_account@odata.bind": f"/accounts({_deal(1)})"}, 404, "0x80040217"),
        ({"closeprobability": "many"}, 400, "0x80048d19"),
        ({"estimatedvalue": "many"}, 400, "0x80048d19"),
        ({"estimatedclosedate": "soon"}, 400, "0x80048d19"),
        ({"name": "x" * 301}, 400, "0x80044331"),
        ({"opportunityid": _deal(1)}, 412, "0x80040237"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused(reader: Any, body: dict[str, Any], status: int, code: str) -> None:
    before = reader.emulator.store.version
    assert reader.refused("opportunities", method="POST", json=body)[:2] == (status, code)
    assert reader.emulator.store.version == before


def test_lookups_are_set_and_cleared_by_navigation_property(client: Any) -> None:
    path = f"opportunities({_deal(1)})"
    client.call("PATCH", path, json={"customerid_contact@odata.bind": f"/contacts({CONTACT})"})
    row = client.emulator.store.row("opportunity", _deal(1))
    assert (row["_customerid_value"], row[f"_customerid_value{LOOKUP_TYPE}"]) == (CONTACT, "contact")
    client.call("PATCH", path, json={"customerid_contact": None})
    row = client.emulator.store.row("opportunity", _deal(1))
    assert row["_customerid_value"] is None
    assert f"_customerid_value{LOOKUP_TYPE}" not in row
    team = f"/teams({_deal(5)})"
    client.call("PATCH", path, json={"ownerid@odata.bind": team})
    assert client.emulator.store.row("opportunity", _deal(1))[f"_ownerid_value{LOOKUP_TYPE}"] == "team"


def test_a_contacts_name_and_account_follow_from_what_is_written(client: Any) -> None:
    bind = {"parentcustomerid_account@odata.bind": f"/accounts({OTHER_ACCOUNT})"}
    contact = _post(client, "contacts", {"firstname": "Zoë", "lastname": "Last", **bind})
    row = client.emulator.store.row("contact", contact)
    assert (row["fullname"], row["_accountid_value"]) == ("Zoë Last", OTHER_ACCOUNT)


def test_state_and_status_keep_together(client: Any) -> None:
    path = f"opportunities({_deal(1)})"
    client.call("PATCH", path, json={"statecode": 2})
    assert client.emulator.store.row("opportunity", _deal(1))["statuscode"] == 4
    client.call("PATCH", path, json={"statuscode": 3})
    assert client.emulator.store.row("opportunity", _deal(1))["statecode"] == 1


def test_a_connection_gets_its_mirror_with_the_sides_swapped(client: Any) -> None:
    made = _connect(client)
    rows = {row["connectionid"]: row for row in client.emulator.store.rows("connection")}
    assert len(rows) == 2
    row, mirror = rows.pop(made), next(iter(rows.values()))
    mirror = client.emulator.store.row("connection", row["_relatedconnectionid_value"])
    assert mirror["_relatedconnectionid_value"] == made
    assert (row["_record1id_value"], row["_record2id_value"]) == (_deal(1), CONTACT)
    assert (mirror["_record1id_value"], mirror["_record2id_value"]) == (CONTACT, _deal(1))
    assert mirror[f"_record1id_value{LOOKUP_TYPE}"] == "contact"
    assert (row["record1objecttypecode"], row["record2objecttypecode"]) == (3, 2)
    assert (mirror["record1objecttypecode"], mirror["record2objecttypecode"]) == (2, 3)
    assert row["_record2roleid_value"] == mirror["_record1roleid_value"] == ROLE
    assert mirror.get("_record2roleid_value") is None
    assert row["versionnumber"] != mirror["versionnumber"]


def test_changing_one_side_of_a_connection_changes_its_mirror(client: Any) -> None:
    made = _connect(client)
    body = {"effectiveend": "2026-05-05T00:00:00Z", "record2id_contact@odata.bind": f"/contacts({OTHER_CONTACT})"}
    client.call("PATCH", f"connections({made})", json=body)
    row = client.emulator.store.row("connection", made)
    mirror = client.emulator.store.row("connection", row["_relatedconnectionid_value"])
    assert mirror["_record1id_value"] == row["_record2id_value"] == OTHER_CONTACT
    assert mirror["effectiveend"] == row["effectiveend"] == "2026-05-05T00:00:00Z"
    assert mirror["_relatedconnectionid_value"] == made


def test_deleting_one_side_of_a_connection_deletes_both(client: Any) -> None:
    made = _connect(client)
    assert client.call("DELETE", f"connections({made})").status_code == 204
    assert client.emulator.store.rows("connection") == []


@pytest.mark.parametrize("path", [f"opportunities({_deal(1)})", f"contacts({OTHER_CONTACT})"])
def test_deleting_an_end_deletes_the_connections(client: Any, path: str) -> None:
    _connect(client, _deal(1), OTHER_CONTACT)
    client.call("DELETE", path)
    assert client.emulator.store.rows("connection") == []


def test_deleting_a_customer_deletes_its_opportunities_and_contacts(client: Any) -> None:
    assert client.call("DELETE", f"accounts({ACCOUNT})").status_code == 204
    assert client.emulator.store.rows("opportunity") == []  # the odd ones are the account's, the others its contact's
    assert [row["contactid"] for row in client.emulator.store.rows("contact")] == [OTHER_CONTACT]
    assert client.refused(f"accounts({ACCOUNT})", method="DELETE")[:2] == (404, "0x80040217")


def _merge(client: Any, kind: str, target: str, subordinate: str, **extra: Any) -> Any:
    entity = {"@odata.type": f"Microsoft.Dynamics.CRM.{kind}"}
    body = {"Target": {**entity, f"{kind}id": target}, "Subordinate": {**entity, f"{kind}id": subordinate}, **extra}
    return client.call("POST", "Merge", json={**body, "PerformParentingChecks": False})


def test_a_merge_keeps_the_subordinate_marked_and_moves_what_refers_to_it(client: Any) -> None:
    made = _connect(client)
    assert _merge(client, "contact", OTHER_CONTACT, CONTACT, UpdateContent={"jobtitle": "Buyer"}).status_code == 204
    gone, kept = (client.emulator.store.row("contact", row_id) for row_id in (CONTACT, OTHER_CONTACT))
    assert (gone["merged"], gone["statecode"], gone["_masterid_value"]) == (True, 1, OTHER_CONTACT)
    assert kept["jobtitle"] == "Buyer"
    row = client.emulator.store.row("connection", made)
    mirror = client.emulator.store.row("connection", row["_relatedconnectionid_value"])
    assert row["_record2id_value"] == mirror["_record1id_value"] == OTHER_CONTACT
    customers = {row["_customerid_value"] for row in client.emulator.store.rows("opportunity")}
    assert customers == {ACCOUNT, OTHER_CONTACT}


def test_merging_accounts_moves_contacts_too(client: Any) -> None:
    _merge(client, "account", OTHER_ACCOUNT, ACCOUNT)
    row = client.emulator.store.row("contact", CONTACT)
    assert (row["_parentcustomerid_value"], row["_accountid_value"]) == (OTHER_ACCOUNT, OTHER_ACCOUNT)


def test_a_merge_without_cascade_leaves_references(client: Any) -> None:
    client.emulator.store.merge("contact", OTHER_CONTACT, CONTACT, cascade=False)
    assert CONTACT in {row["_customerid_value"] for row in client.emulator.store.rows("opportunity")}


def test_merges_that_make_no_sense_are_refused(client: Any) -> None:
    assert _merge(client, "contact", CONTACT, CONTACT).status_code == 400
    assert _merge(client, "contact", CONTACT, _deal(1)).status_code == 404
    assert _merge(client, "opportunity", _deal(1), _deal(2)).status_code == 501
    _merge(client, "contact", OTHER_CONTACT, CONTACT)
    assert _merge(client, "contact", OTHER_CONTACT, CONTACT).status_code == 400


def test_create_and_update_multiple_are_all_or_nothing(client: Any) -> None:
    path = "opportunities/Microsoft.Dynamics.CRM.CreateMultiple"
    answer = client.call("POST", path, json={"Targets": [{"name": "a"}, {"name": "b"}]})
    ids = answer.json()["Ids"]
    assert [client.emulator.store.row("opportunity", row_id)["name"] for row_id in ids] == ["a", "b"]
    before = len(client.emulator.store.rows("opportunity"))
    assert client.call("POST", path, json={"Targets": [{"name": "c"}, {"nonesuch": 1}]}).status_code == 400
    assert len(client.emulator.store.rows("opportunity")) == before
    targets = [{"opportunityid": row_id, "name": "z"} for row_id in ids]
    update = client.call("POST", "opportunities/Microsoft.Dynamics.CRM.UpdateMultiple", json={"Targets": targets})
    assert update.status_code == 204
    assert {client.emulator.store.row("opportunity", row_id)["name"] for row_id in ids} == {"z"}


def test_overridden_creation_backdates_createdon(client: Any) -> None:
    made = _post(client, "accounts", {"name": "Old", "overriddencreatedon": "2019-05-06T00:00:00Z"})
    assert client.emulator.store.row("account", made)["createdon"] == "2019-05-06T00:00:00Z"
