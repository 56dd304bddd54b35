from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow

CRM = "Microsoft.Dynamics.CRM."


def _attributes(client: Any, table: str) -> dict[str, dict[str, Any]]:
    document = client.json(f"EntityDefinitions(LogicalName='{table}')/Attributes")
    return {item["LogicalName"]: item for item in document["value"]}


def _choice(client: Any, table: str, cast: str, column: str) -> dict[str, Any]:
    path = f"EntityDefinitions(LogicalName='{table}')/Attributes/{CRM}{cast}?$select=LogicalName"
    document = client.json(f"{path}&$expand=OptionSet,GlobalOptionSet")
    found: dict[str, Any] = next(item for item in document["value"] if item["LogicalName"] == column)
    return found


def _labels(choice: dict[str, Any]) -> dict[int, str]:
    return {option["Value"]: option["Label"]["UserLocalizedLabel"]["Label"] for option in choice["Options"]}


@pytest.mark.parametrize(
    ("table", "entity_set", "key"),
    [
        ("opportunity", "opportunities", "opportunityid"),
        ("contact", "contacts", "contactid"),
        ("account", "accounts", "accountid"),
        ("connection", "connections", "connectionid"),
        ("connectionrole", "connectionroles", "connectionroleid"),
    ],
)
def test_a_table_definition_with_its_attributes(reader: Any, table: str, entity_set: str, key: str) -> None:
    select = "$select=LogicalName,EntitySetName,PrimaryIdAttribute,ChangeTrackingEnabled"
    path = f"EntityDefinitions(LogicalName='{table}')?{select}&$expand=Attributes($select=LogicalName,AttributeType)"
    document = reader.json(path)
    assert (document["EntitySetName"], document["PrimaryIdAttribute"]) == (entity_set, key)
    assert document["ChangeTrackingEnabled"] is True
    assert "SchemaName" not in document
    attributes = {item["LogicalName"]: item["AttributeType"] for item in document["Attributes"]}
    assert attributes[key] == "Uniqueidentifier"
    assert attributes["versionnumber"] == "BigInt"
    assert reader.json(f"EntityDefinitions({document['MetadataId']})?$select=LogicalName")["LogicalName"] == table


def test_column_types_are_those_of_dataverse(reader: Any) -> None:
    found = _attributes(reader, "opportunity")
    kinds = {name: item["AttributeType"] for name, item in found.items()}
    expected = {
        "name": "String",
        "description": "Memo",
        "customerid": "Customer",
        "parentaccountid": "Lookup",
        "ownerid": "Owner",
        "statecode": "State",
        "statuscode": "Status",
        "salesstage": "Picklist",
        "estimatedvalue": "Money",
        "exchangerate": "Decimal",
        "closeprobability": "Integer",
        "pursuitdecision": "Boolean",
        "estimatedclosedate": "DateTime",
        "createdon": "DateTime",
    }
    assert {name: kinds[name] for name in expected} == expected
    assert found["customerid"]["Targets"] == ["account", "contact"]
    assert found["name"]["MaxLength"] == 300
    assert found["estimatedvalue"]["Precision"] == 2
    assert found["estimatedvalue"]["AttributeTypeName"] == {"Value": "MoneyType"}
    assert found["customerid"]["DisplayName"]["UserLocalizedLabel"]["Label"] == "Potential Customer"
    date, moment = found["estimatedclosedate"], found["createdon"]
    assert (date["Format"], date["DateTimeBehavior"]) == ("DateOnly", {"Value": "DateOnly"})
    assert (moment["Format"], moment["DateTimeBehavior"]) == ("DateAndTime", {"Value": "UserLocal"})
    effective = _attributes(reader, "connection")["effectivestart"]
    assert (effective["Format"], effective["DateTimeBehavior"]) == ("DateOnly", {"Value": "UserLocal"})
    assert "opportunity" in _attributes(reader, "connection")["record1id"]["Targets"]


def test_derived_names_are_listed_and_marked(reader: Any) -> None:
    found = _attributes(reader, "opportunity")
    assert found["customeridname"]["AttributeOf"] == "customerid"
    assert found["customeridtype"]["AttributeType"] == "EntityName"
    assert (found["statecodename"]["AttributeType"], found["statecodename"]["AttributeOf"]) == ("Virtual", "statecode")
    assert found["name"]["AttributeOf"] is None


def test_choices_come_with_the_cast_of_their_type(reader: Any) -> None:
    state = _choice(reader, "opportunity", "StateAttributeMetadata", "statecode")
    assert _labels(state["OptionSet"]) == {0: "Open", 1: "Won", 2: "Lost"}
    status = _choice(reader, "opportunity", "StatusAttributeMetadata", "statuscode")
    assert {o["Value"]: o["State"] for o in status["OptionSet"]["Options"]} == {1: 0, 2: 0, 3: 1, 4: 2, 5: 2}
    stage = _choice(reader, "opportunity", "PicklistAttributeMetadata", "salesstage")
    assert _labels(stage["OptionSet"]) == {0: "Qualify", 1: "Develop", 2: "Propose", 3: "Close"}
    assert stage["GlobalOptionSet"] is None
    merged = _choice(reader, "contact", "BooleanAttributeMetadata", "merged")["OptionSet"]
    assert merged["TrueOption"]["Label"]["UserLocalizedLabel"]["Label"] == "Yes"


def test_a_global_choice_stands_in_the_global_option_set_only(reader: Any) -> None:
    category = _choice(reader, "connectionrole", "PicklistAttributeMetadata", "category")
    assert category["OptionSet"] is None
    labels = _labels(category["GlobalOptionSet"])
    assert (labels[1000], labels[1001], labels[1002], labels[1]) == ("Stakeholder", "Sales Team", "Service", "Business")


def test_labels_may_end_in_a_space(reader: Any) -> None:
    end = _choice(reader, "connection", "PicklistAttributeMetadata", "record1objecttypecode")
    assert _labels(end["OptionSet"])[2] == "Contact "


def test_select_may_only_name_properties_of_the_type_asked_for(reader: Any) -> None:
    base = "EntityDefinitions(LogicalName='opportunity')/Attributes"
    status, code, message = reader.refused(f"{base}?$select=LogicalName,Targets")
    assert (status, code) == (400, "0x80060888")
    assert "'Targets' on type 'Microsoft.Dynamics.CRM.AttributeMetadata'" in message
    lookup = f"{CRM}AttributeTypeCode'Lookup'"
    assert reader.refused(f"{base}?$select=LogicalName,Targets&$filter=AttributeType eq {lookup}")[0] == 400
    lookups = reader.json(f"{base}/{CRM}LookupAttributeMetadata?$select=LogicalName,Targets")["value"]
    assert {"customerid", "ownerid", "parentaccountid"} <= {item["LogicalName"] for item in lookups}
    assert reader.refused(f"{base}?$expand=OptionSet")[0] == 400
    assert reader.refused(f"{base}/{CRM}NonesuchAttributeMetadata")[0] == 404


def test_attributes_can_be_filtered_and_asked_for_by_name(reader: Any) -> None:
    base = "EntityDefinitions(LogicalName='opportunity')/Attributes"
    kind = "Microsoft.Dynamics.CRM.AttributeTypeCode'Money'"
    moneys = reader.json(f"{base}?$select=LogicalName,AttributeType&$filter=AttributeType eq {kind}")["value"]
    assert {item["AttributeType"] for item in moneys} == {"Money"}
    one = reader.json(f"{base}(LogicalName='statecode')/{CRM}StateAttributeMetadata?$expand=OptionSet")
    assert _labels(one["OptionSet"])[1] == "Won"
    assert reader.json(f"{base}(LogicalName='name')?$select=LogicalName")["LogicalName"] == "name"
    assert reader.refused(f"{base}(LogicalName='nonesuch')")[0] == 404


def test_tables_with_change_tracking_can_be_listed(client: Any) -> None:
    client.emulator.set_change_tracking("connection", False)
    path = "EntityDefinitions?$select=LogicalName&$filter=ChangeTrackingEnabled eq true"
    names = {item["LogicalName"] for item in client.json(path)["value"]}
    assert names == {"opportunity", "contact", "account", "connectionrole"}
    one = client.json("EntityDefinitions?$select=EntitySetName&$filter=LogicalName eq 'contact'")["value"]
    assert [item["EntitySetName"] for item in one] == ["contacts"]


def test_an_unknown_table_is_not_found(reader: Any) -> None:
    assert reader.refused("EntityDefinitions(LogicalName='nonesuch')")[0] == 404


def test_columns_can_be_dropped_and_added(client: Any) -> None:
    client.emulator.drop_column("opportunity", "stepname")
    client.emulator.add_column("opportunity", "new_score", "Integer")
    found = _attributes(client, "opportunity")
    assert "stepname" not in found
    assert (found["new_score"]["AttributeType"], found["new_score"]["IsCustomAttribute"]) == ("Integer", True)
    assert client.refused("opportunities?$select=stepname")[1] == "0x80060888"
    row = client.json("opportunities?$select=name")["value"][0]["opportunityid"]
    client.emulator.store.update("opportunity", row, {"new_score": 7})
    assert client.json(f"opportunities({row})?$select=new_score")["new_score"] == 7


def test_columns_of_the_organisations_own_are_found_in_the_seed(reader: Any) -> None:
    found = _attributes(reader, "contact")["new_synctomkto"]
    assert (found["AttributeType"], found["IsCustomAttribute"]) == ("Boolean", True)


def test_every_column_of_the_rows_is_a_readable_attribute(reader: Any) -> None:
    for table, entity_set in (("opportunity", "opportunities"), ("contact", "contacts"), ("connection", "connections")):
        lookups = {"Lookup", "Customer", "Owner"}
        names = {
            f"_{name}_value" if item["AttributeType"] in lookups else name
            for name, item in _attributes(reader, table).items()
            if item["IsValidForRead"] and item["AttributeOf"] is None
        }
        shown = {key for row in reader.json(entity_set)["value"] for key in row if "@" not in key}
        assert shown <= names
