"""A lost ledger, and plans that are only looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pytest

from opportunity_sync.data_root import open_data_root
from opportunity_sync.errors import ConfigurationError
from opportunity_sync.marketo.errors import MarketoServiceError
from opportunity_sync.marketo_load import dry_run, load, open_session
from opportunity_sync.marketo_load.ledger import open_ledger
from opportunity_sync.marketo_load.rebuild import rebuild_ledger
from opportunity_sync.settings import Settings
from tests.lakes import identity
from tests.marketo_load.instances import ROLES, FakeMarketo
from tests.marketo_load.releases import contact, key, opportunity, publish, role, settings_for

pytestmark = pytest.mark.slow

ROWS: dict[str, Any] = {
    "opportunities": [opportunity("o1"), opportunity("o2")],
    "opportunity_contact_roles": [role("o1", "c1", 'Décideur "final"'), role("o2", "c1")],
    "contacts": [contact("c1"), contact("c2")],
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path / "data")


@pytest.fixture
def marketo() -> Any:
    marketo = FakeMarketo()
    marketo.add_lead(email="c1@example.com")
    return marketo


def lose_ledger(settings: Settings) -> None:
    for file in settings.data.glob("marketo/*/ledger.duckdb*"):
        file.unlink()


def test_a_rebuilt_ledger_knows_what_marketo_holds_also_of_opportunities_that_are_gone_since(
    settings: Settings, marketo: Any
) -> None:
    publish(settings, **ROWS)
    load(marketo, settings)
    before = {name: dict(records) for name, records in marketo.records.items()}
    lose_ledger(settings)
    publish(settings, "r2", **(ROWS | {"opportunities": ROWS["opportunities"][:1], "opportunity_contact_roles": []}))
    with duckdb.connect(str(open_data_root(settings.data).live_file)) as connection:
        connection.execute("create schema history")
        connection.execute("create table history.opportunities (opportunity_id uuid)")
        connection.execute("insert into history.opportunities values (?)", [identity("o2")])
    marketo.calls.clear()
    with open_session(marketo, settings) as session:
        assert rebuild_ledger(session) == {"opportunities": 2, ROLES: 2}
        planned = session.make_plan(session.probe())
    assert (planned["opportunities"].update, planned[ROLES].delete) == (1, 2)
    assert marketo.writes() == []
    assert {name: dict(records) for name, records in marketo.records.items()} == before
    done = load(marketo, settings, accept_deletes=True)
    assert done.sent == {"opportunities": {"updated": 1, "deleted": 1}, ROLES: {"deleted": 2}}
    assert marketo.keys("opportunities") == {(key("o1"),)}
    marketo.calls.clear()
    load(marketo, settings)
    assert marketo.writes() == []


def test_a_rebuild_that_fails_leaves_the_ledger_as_it_was(settings: Settings, marketo: Any) -> None:
    publish(settings, **ROWS)
    load(marketo, settings)
    lookup = marketo.lookup

    def fail(obj: str, *arguments: Any) -> Any:
        if obj == ROLES:
            raise MarketoServiceError("Marketo answered 611", action="Run again later")
        return lookup(obj, *arguments)

    marketo.lookup = fail
    with pytest.raises(MarketoServiceError), open_session(marketo, settings) as session:
        rebuild_ledger(session)
    marketo.lookup = lookup
    marketo.calls.clear()
    load(marketo, settings)
    assert marketo.writes() == []


def test_a_dry_run_writes_every_intended_call_and_sends_nothing(settings: Settings, marketo: Any) -> None:
    publish(settings, **ROWS)
    load(marketo, settings)
    changed = [opportunity("o1", name="new"), *(opportunity(f"n{n}") for n in range(350))]
    roles = [role("o1", "c1", "Sponsor"), role("o1", "c2")]
    publish(settings, "r2", **(ROWS | {"opportunities": changed, "opportunity_contact_roles": roles}))
    marketo.calls.clear()
    done = dry_run(marketo, settings)
    assert marketo.writes() == []
    counts = done.planned["opportunities"]
    assert (counts.confirmed, counts.create, counts.update, counts.delete) == (2, 350, 1, 1)
    assert done.planned[ROLES].parked == {"no_lead": 1}
    with duckdb.connect() as connection:
        calls = connection.execute(
            f"""
            select step, call, object, list_sort(list(distinct action)), count(*)
            from '{done.plan}' group by all order by step nulls last, call
            """
        ).fetchall()
    assert calls == [
        (1, 1, "opportunities", ["create", "update"], 300),
        (1, 2, "opportunities", ["create"], 51),
        (2, 1, ROLES, ["create"], 1),
        (8, 1, ROLES, ["delete"], 2),
        (9, 1, "opportunities", ["delete"], 1),
        (None, None, ROLES, ["parked"], 1),
    ]
    marketo.calls.clear()
    load(marketo, settings)
    assert [(kind, name, size) for kind, name, size in marketo.writes()] in (
        [("upsert", "opportunities", 300), ("upsert", "opportunities", 51), *writes_after_opportunities()],
        [("upsert", "opportunities", 51), ("upsert", "opportunities", 300), *writes_after_opportunities()],
    )


def writes_after_opportunities() -> list[tuple[str, str, int]]:
    return [("upsert", ROLES, 1), ("delete", ROLES, 2), ("delete", "opportunities", 1)]


def test_the_ledger_of_one_instance_is_refused_for_another(settings: Settings, marketo: Any) -> None:
    publish(settings, **ROWS)
    load(marketo, settings)
    (folder,) = (settings.data / "marketo").iterdir()
    folder.rename(folder.with_name("999-zzz-999.mktorest.example"))
    with (
        pytest.raises(ConfigurationError, match=r"is the ledger of 123-abc-456\.mktorest\.example, not of 999-zzz-999"),
        open_ledger(settings, "https://999-zzz-999.mktorest.example"),
    ):
        pass


def test_two_instances_have_two_ledgers(settings: Settings, marketo: Any) -> None:
    publish(settings, **ROWS)
    load(marketo, settings)
    other: Any = FakeMarketo()
    other.base_url = "https://other.example"
    assert load(other, settings).sent["opportunities"] == {"created": 2}
    assert len(list((settings.data / "marketo").iterdir())) == 2
