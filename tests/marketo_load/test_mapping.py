"""`include/marketo.yaml`: what is accepted, and that every mistake is named with its line before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from opportunity_sync.errors import ConfigurationError
from opportunity_sync.marketo_load import load
from opportunity_sync.marketo_load.mapping import load_rules
from opportunity_sync.settings import PROJECT
from tests.marketo_load.instances import ROLES, FakeMarketo
from tests.marketo_load.releases import opportunity, publish, settings_for

Edit = Callable[[str, str], Path]


def line_of(folder: Path, text: str) -> int:
    lines = (folder / "marketo.yaml").read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, start=1) if text in line and not line.startswith("#"))


def test_the_shipped_file_is_the_native_connectors_mapping_on_every_instance() -> None:
    rules = load_rules(PROJECT / "include" / "marketo.yaml")
    assert rules.objects == ("opportunities", ROLES)
    assert rules.opportunities.columns["stage"] == "state"
    assert rules.opportunities.columns["amount"] == "amount_base"
    assert (rules.leads.field, rules.leads.create) == ("email", False)


@pytest.mark.parametrize(
    ("old", "new", "at", "message"),
    [
        (
            "    name: name",
            "    name: 3",
            "name: 3",
            "name is not the name of a Marketo field with the name of a column",
        ),
        ("    name: name", "    externalOpportunityId: name", "externalOpp", "is the key and filled by itself"),
        ("  create: false", "  create: perhaps", "create", "create is not of type bool"),
        ("  create: false\n", "", "leads:", "key create is missing"),
        ("  asked_again: 6000", "  asked_again: -1", "asked_again", "asked_again is negative"),
        ("  share: 0.2", "  share: 20", "share", "share is not between 0 and 1"),
        ("    - stakeholder", "    - everybody", "sources:", "sources is not a list of customer and stakeholder"),
        ("deletes:", "removals:", "removals", "unknown section 'removals'"),
        ("  field: email", "  field: ''", "field: ''", "field is not of type str"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(edit_rules: Edit, old: str, new: str, at: str, message: str) -> None:
    folder = edit_rules(old, new)
    with pytest.raises(ConfigurationError) as caught:
        load_rules(folder / "marketo.yaml")
    assert message in str(caught.value)
    assert f"marketo.yaml, line {line_of(folder, at)}:" in str(caught.value)
    assert "Nothing was sent to Marketo" in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("stage: state", "stag: state", "has no field stag; did you mean stage?"),
        ("stage: state", "stage: stat", "table opportunities has no column stat; did you mean state?"),
        (
            "isWon: is_won",
            "isWon: close_date",
            "column close_date is DATE, which Marketo's field isWon of type boolean",
        ),
        ("probability: close_probability", "probability: name", "column name is VARCHAR, which Marketo's field probab"),
        ("  column: email", "  column: mail", "table contacts has no column mail; did you mean email?"),
        ("  field: email", "  field: lastName", "leads cannot be searched by lastName; searchable are email"),
        ("  field: email", "  field: dynamicsId", "leads have no field dynamicsId"),
    ],
)
def test_a_mapping_that_does_not_fit_release_or_instance_stops_before_the_first_write(
    tmp_path: Path, edit_rules: Edit, old: str, new: str, message: str
) -> None:
    marketo: Any = FakeMarketo()
    settings = settings_for(tmp_path / "data", include=edit_rules(old, new))
    publish(settings, opportunities=[opportunity("o1")])
    with pytest.raises(ConfigurationError) as caught:
        load(marketo, settings)
    assert message in str(caught.value)
    assert "marketo.yaml, line " in str(caught.value)
    assert marketo.writes() == []


@pytest.mark.parametrize(
    ("obj", "name", "changes", "message"),
    [
        ("opportunities", "stage", {"updateable": False}, "has the field stage, but it cannot be written"),
        ("opportunities", "externalOpportunityId", {"length": 20}, "that takes an id of 36 characters"),
        (ROLES, "role", {"length": 10}, "role texts of a usable length"),
        (ROLES, "isPrimary", {"updateable": False}, "lacks writable isPrimary"),
    ],
)
def test_an_instance_whose_fields_do_not_take_our_values_is_refused(
    tmp_path: Path, obj: str, name: str, changes: dict[str, Any], message: str
) -> None:
    marketo: Any = FakeMarketo()
    marketo.set_field(obj, name, **changes)
    settings = settings_for(tmp_path / "data")
    publish(settings, opportunities=[opportunity("o1")])
    with pytest.raises(ConfigurationError, match=message):
        load(marketo, settings)
    assert marketo.writes() == []
