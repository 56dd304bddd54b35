from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow

ACCOUNT = "00000000-0000-4000-8000-00000000a001"
CONTACT, OTHER_CONTACT = "00000000-0000-4000-8000-00000000c001", "00000000-0000-4000-8000-00000000c002"
DEAL = "00000000-0000-4000-8000-0000000d0001"


def _control(client: Any, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    url = f"{client.emulator.url}/_control/{path}"
    response = client.session.request(method, url, json=body, headers={"Authorization": ""}, timeout=20)
    return response.status_code, response.json()


def test_health_tells_rows_and_version_without_a_token(client: Any) -> None:
    status, body = _control(client, "GET", "health")
    assert (status, body["status"], body["rows"]["opportunity"]) == (200, "ok", 12)
    assert body["organization_id"] == client.emulator.organization_id
    assert body["version"] == client.emulator.store.version


def test_operations_apply_in_order(client: Any) -> None:
    operations = [
        {"op": "create", "table": "contact", "values": {"firstname": "New", "lastname": "One"}},
        {"op": "update", "table": "opportunity", "id": DEAL, "values": {"name": "x", "estimatedvalue": 1.50}},
        {"op": "merge", "table": "contact", "id": OTHER_CONTACT, "values": {"subordinateid": CONTACT}},
        {"op": "delete", "table": "opportunity", "id": DEAL.replace("d0001", "d0002")},
    ]
    status, body = _control(client, "POST", "operations", operations)
    assert status == 200, body
    assert client.emulator.store.row("contact", body["ids"][0])["fullname"] == "New One"
    assert client.emulator.store.row("opportunity", DEAL)["name"] == "x"
    assert client.emulator.store.row("contact", CONTACT)["merged"] is True
    assert len(client.emulator.store.rows("opportunity")) == 11
    assert body["version"] == client.emulator.store.version


def test_operations_are_all_or_nothing(client: Any) -> None:
    good = {"op": "update", "table": "opportunity", "id": DEAL, "values": {"name": "x"}}
    for bad in (
        {"op": "update", "table": "opportunity", "id": DEAL, "values": {"nonesuch": 1}},
        {"op": "delete", "table": "opportunity", "id": ACCOUNT},
        {"op": "explode", "table": "opportunity", "id": DEAL},
        {"op": "delete", "table": "nonesuch", "id": DEAL},
    ):
        status, _ = _control(client, "POST", "operations", [good, bad])
        assert status in (400, 404)
        assert client.emulator.store.row("opportunity", DEAL)["name"] == "Deal 01"


def test_a_control_may_write_rows_in_seed_shape_and_leave_references_dangling(client: Any) -> None:
    values = {
        "name": "dangling",
        "_customerid_value": "00000000-0000-4000-8000-00000000ffff",
        "_customerid_value@Microsoft.Dynamics.CRM.lookuplogicalname": "contact",
    }
    made = client.emulator.store.create("opportunity", values)
    asked = 'odata.include-annotations="Microsoft.Dynamics.CRM.lookuplogicalname"'
    row = client.json(f"opportunities({made})?$select=_customerid_value", prefer=asked)
    assert row["_customerid_value"] == values["_customerid_value"]
    assert row["_customerid_value@Microsoft.Dynamics.CRM.lookuplogicalname"] == "contact"


def test_rows_and_requests_can_be_read(client: Any) -> None:
    client.get("accounts")
    _, body = _control(client, "POST", "rows", {"table": "account"})
    assert {row["name"] for row in body["rows"]} == {"Oak & Söhne", "Other"}
    assert _control(client, "GET", "requests")[1]["requests"][-1]["path"] == "/api/data/v9.2/accounts"
    _control(client, "DELETE", "requests")
    assert _control(client, "GET", "requests")[1]["requests"] == []


def test_every_switch_works_over_http(client: Any) -> None:
    tracked = client.json("opportunities?$select=name", prefer="odata.track-changes")["@odata.deltaLink"]
    _control(client, "POST", "expire_change_tracking", {"table": "opportunity"})
    assert client.refused(tracked)[1] == "0x80044352"
    _control(client, "POST", "change_tracking", {"table": "account", "enabled": False})
    assert client.refused("accounts", prefer="odata.track-changes")[1] == "0x80072491"
    _control(client, "POST", "privileges", {"read": {"contact": "None"}})
    assert client.get("contacts").status_code == 403
    _control(client, "POST", "privileges", {"member": False})
    assert client.get("accounts").status_code == 403
    _control(client, "POST", "privileges", {})
    assert client.get("contacts").status_code == 200
    _control(client, "POST", "add_column", {"table": "account", "column": "new_x", "type": "Integer"})
    assert client.get("accounts?$select=new_x").status_code == 200
    _control(client, "POST", "drop_column", {"table": "account", "column": "new_x"})
    assert client.get("accounts?$select=new_x").status_code == 400
    _control(client, "POST", "faults", [{"action": "status", "status": 503, "times": 1}])
    assert client.get("accounts").status_code == 503
    assert _control(client, "GET", "faults")[1]["rules"] == [{"action": "status", "matched": 1, "fired": 1}]
    _control(client, "POST", "latency", {"milliseconds": 1})
    assert client.get("accounts").headers["x-ms-dop-hint"] == "4"
    _control(client, "POST", "dop_hint", {"requests": 2})
    assert client.get("accounts").headers["x-ms-dop-hint"] == "2"
    _control(client, "POST", "dop_hint", {"requests": 0})
    assert "x-ms-dop-hint" not in client.get("accounts").headers
    _control(client, "POST", "revoke_tokens", {})
    assert client.get("accounts").status_code == 401
    client.login()
    assert client.get("accounts").status_code == 200
    _control(client, "POST", "clock", {"seconds": 4000})
    assert client.get("accounts").status_code == 401


def test_what_is_said_about_a_column_can_change_and_a_dropped_one_takes_its_values_along(client: Any) -> None:
    assert _control(client, "POST", "add_column", {"table": "account", "column": "new_x", "type": "Integer"})[0] == 200
    assert _control(client, "POST", "add_column", {"table": "account", "column": "new_x"})[0] == 400
    client.emulator.store.update("account", ACCOUNT, {"new_x": 1})
    version = client.emulator.store.version
    changed = {"table": "account", "column": "new_x", "type": "Picklist", "options": {"1": 'It\'s "one"'}}
    assert _control(client, "POST", "change_column", changed)[0] == 200
    cast = "Attributes/Microsoft.Dynamics.CRM.PicklistAttributeMetadata?$select=LogicalName&$expand=OptionSet"
    found = client.json(f"EntityDefinitions(LogicalName='account')/{cast}")["value"]
    (options,) = (item["OptionSet"]["Options"] for item in found if item["LogicalName"] == "new_x")
    assert [(each["Value"], each["Label"]["UserLocalizedLabel"]["Label"]) for each in options] == [(1, 'It\'s "one"')]
    assert client.emulator.store.row("account", ACCOUNT)["new_x"] == 1
    assert client.emulator.store.version == version
    assert _control(client, "POST", "drop_column", {"table": "account", "column": "new_x"})[0] == 200
    assert "new_x" not in client.emulator.store.row("account", ACCOUNT)
    assert _control(client, "POST", "change_column", changed)[0] == 400


def test_deletes_while_change_tracking_is_off_are_never_reported(client: Any) -> None:
    link = client.json("accounts?$select=name", prefer="odata.track-changes")["@odata.deltaLink"]
    client.emulator.set_change_tracking("account", False)
    client.emulator.store.delete("account", ACCOUNT)
    client.emulator.set_change_tracking("account", True)
    assert not [row for row in client.json(link.partition("/v9.2/")[2])["value"] if row.get("id") == ACCOUNT]


def test_controls_are_never_hit_by_faults(client: Any) -> None:
    client.emulator.set_faults([{"action": "reset", "path": "."}])
    assert _control(client, "GET", "health")[0] == 200


def test_a_wrong_control_names_the_ones_there_are(client: Any) -> None:
    status, body = _control(client, "POST", "nonesuch", {})
    assert status == 404
    assert "GET /_control/health" in body["known"]
    assert _control(client, "POST", "faults", [{"action": "explode"}])[0] == 400
    assert _control(client, "POST", "drop_column", {"table": "account", "column": "nonesuch"})[0] == 400
