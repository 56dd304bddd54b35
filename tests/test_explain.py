"""`opportunity-sync explain`: why an opportunity has its account and its contact roles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from opportunity_sync.cli import app
from opportunity_sync.errors import UnknownOpportunityError
from opportunity_sync.explain import explain, lines
from opportunity_sync.publish import publish
from opportunity_sync.settings import PROJECT, Settings
from tests.lakes import identity
from tests.small_organisation import build, extract, let_pass, organisation, settings_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A data root with two releases: the second one lacks opportunity o5."""
    settings = settings_for(tmp_path_factory.mktemp("explain") / "data")
    rows = organisation()
    extract(settings, rows)
    publish(settings, let_pass(settings, build(settings)).release_id)
    extract(settings, {"opportunity": [row for row in rows["opportunity"] if row["opportunityid"] != "o5"]})
    publish(settings, let_pass(settings, build(settings)).release_id)
    return settings


def contact_with_stakeholder(settings: Settings) -> str:
    """An opportunity whose customer is a contact, and which has a stakeholder too."""
    for number in range(40):
        found = explain(settings, str(identity(f"o{number}"))) if number != 5 else {"contact_roles": []}
        if {role["role_source"] for role in found["contact_roles"]} == {"customer", "stakeholder"}:
            return str(identity(f"o{number}"))
    raise AssertionError("the small organisation has no such opportunity")


def test_every_role_and_the_account_have_a_step_that_gives_them(settings: Settings) -> None:
    found = explain(settings, contact_with_stakeholder(settings))
    applied = [step for step in found["steps"] if step["outcome"] == "applies"]
    assert [step["explanation"].partition(":")[0] for step in applied] == [found["opportunity"]["account_rule"]]
    assert applied[0]["id"] == found["opportunity"]["account_id"]
    giving = [step for step in found["steps"] if step["outcome"] == "gives_role"]
    assert len(giving) == len(found["contact_roles"])
    assert len([step for step in found["steps"] if step["topic"] == "account_rule"]) == 6


def test_every_fact_names_the_batch_that_brought_it_and_when_it_was_read(settings: Settings) -> None:
    found = explain(settings, contact_with_stakeholder(settings))
    facts = [step for step in found["steps"] if step["topic"] != "account_rule"]
    assert facts
    for step in facts:
        assert step["read_at"].endswith("Z")
        assert len(list((settings.data / "raw").glob(f"*/{step['raw_batch']}/manifest.json"))) == 1


def test_text_names_the_account_the_roles_and_all_steps(settings: Settings) -> None:
    found = explain(settings, contact_with_stakeholder(settings))
    text = "\n".join(lines(found))
    assert found["opportunity"]["account_name"] in text
    for role in found["contact_roles"]:
        assert role["full_name"] in text
    for step in found["steps"]:
        assert step["explanation"] in text


def test_an_opportunity_that_left_is_answered_with_where_to_find_it(settings: Settings) -> None:
    with pytest.raises(
        UnknownOpportunityError, match=r"not in the live release; releases before .* opportunities_history"
    ):
        explain(settings, str(identity("o5")))


@pytest.mark.parametrize(
    ("given", "message"), [(str(identity("o999")), "is in no release"), ("Deal 1'; --", "is not the id of")]
)
def test_an_unknown_id_is_an_error_that_says_so(settings: Settings, given: str, message: str) -> None:
    with pytest.raises(UnknownOpportunityError, match=message):
        explain(settings, given)


def test_before_the_first_release_there_is_nothing_to_explain(tmp_path: Path) -> None:
    with pytest.raises(UnknownOpportunityError, match="no release yet"):
        explain(settings_for(tmp_path / "data"), str(identity("o1")))


def test_the_command_prints_text_or_json(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPPORTUNITY_SYNC_DATA", str(settings.data))
    monkeypatch.setenv("OPPORTUNITY_SYNC_INCLUDE", str(PROJECT / "include"))
    opportunity_id = contact_with_stakeholder(settings)
    found = explain(settings, opportunity_id)
    text = CliRunner().invoke(app, ["explain", opportunity_id])
    assert (text.exit_code, text.stdout.splitlines()) == (0, lines(found))
    as_json = CliRunner().invoke(app, ["explain", opportunity_id.upper(), "--json"])
    assert (as_json.exit_code, json.loads(as_json.stdout)) == (0, found)
    failed = CliRunner().invoke(app, ["explain", "rubbish"])
    assert failed.exit_code == 1
    assert "Give its GUID" in failed.stderr
