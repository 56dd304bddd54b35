"""After any changes, faults and kills, one clean run makes Marketo equal to the release; the next writes nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as sampling
from hypothesis import strategies as st

from opportunity_sync.marketo.errors import MarketoServiceError
from opportunity_sync.marketo_load import load
from opportunity_sync.marketo_load.ledger import Ledger
from opportunity_sync.settings import Settings
from tests.marketo_load.instances import ROLES, FakeMarketo, KilledError
from tests.marketo_load.releases import contact, key, opportunity, publish, role, settings_for

pytestmark = pytest.mark.slow

OPPORTUNITIES = ["o1", "o2"]
ABSENT = "absent"
CONTACTS = ["c1", "c2"]
TEXTS = ["Champion", "Vice president of everything that can be procured, north"]
"""Few of everything, so that what comes back, goes and changes is often the same."""

release = st.fixed_dictionaries(
    {
        "opportunities": st.fixed_dictionaries(
            {o: st.sampled_from(["a", "a", None, None, ABSENT]) for o in OPPORTUNITIES}
        ).map(lambda chosen: {o: value for o, value in chosen.items() if value != ABSENT}),
        "roles": st.dictionaries(
            st.tuples(st.sampled_from(OPPORTUNITIES), st.sampled_from(CONTACTS), st.sampled_from(TEXTS)),
            st.booleans(),
            max_size=4,
        ),
    }
)


@dataclass(frozen=True)
class Step:
    """What happens between two releases, and what disturbs the run of the second."""

    release: Mapping[str, Any]
    lead: str
    """A contact that gets a lead, if it has none."""
    disturbance: str
    at: int
    """Which write, or which note in the ledger, is disturbed."""


steps = st.lists(
    st.builds(
        Step,
        release=release,
        lead=st.sampled_from(CONTACTS),
        disturbance=st.sampled_from(
            ["none", "refused before", "lost after", "killed sending", "killed noting", "quota"]
        ),
        at=st.integers(1, 2),
    ),
    min_size=3,
    max_size=5,
)


@dataclass
class World:
    marketo: FakeMarketo = field(default_factory=FakeMarketo)
    leads: dict[str, int] = field(default_factory=dict)

    def publish(self, settings: Settings, step: Step, number: int) -> None:
        rows = [role(o, c, text, is_primary=primary) for (o, c, text), primary in step.release["roles"].items()]
        publish(
            settings,
            f"r{number}",
            opportunities=[
                opportunity(o, amount_base=None if value is None else 5, state=value)
                for o, value in step.release["opportunities"].items()
            ],
            opportunity_contact_roles=[
                each for each in rows if each["opportunity_id"] in step.release["opportunities"]
            ],
            contacts=[contact(c) for c in CONTACTS],
        )

    def happens(self, step: Step) -> None:
        if step.lead not in self.leads:
            self.leads[step.lead] = self.marketo.add_lead(email=f"{step.lead}@example.com")

    def check(self, step: Step) -> None:
        wanted = step.release["opportunities"]
        found = self.marketo.records["opportunities"]
        assert {k[0]: (r.get("stage"), r.get("amount")) for k, r in found.items()} == {
            key(o): (value, None if value is None else 5) for o, value in wanted.items()
        }
        expected = {
            (key(o), self.leads[c], text[:42]): primary
            for (o, c, text), primary in step.release["roles"].items()
            if o in wanted and c in self.leads
        }
        roles = self.marketo.records[ROLES]
        assert {(o, lead, text[:42]): r["isPrimary"] for (o, lead, text), r in roles.items()} == expected


@contextmanager
def disturbed(marketo: FakeMarketo, step: Step) -> Iterator[None]:
    """Let a run fail or die at one moment; a dead process neither sends nor notes anything more."""
    count = {"writes": 0, "notes": 0}
    dead = False

    def write(kind: str) -> Callable[[str, str], None]:
        def happen(_: str, __: str) -> None:
            nonlocal dead
            count["writes"] += kind == "before"
            if dead:
                raise KilledError
            if count["writes"] != step.at:
                return
            if step.disturbance == f"{'refused before' if kind == 'before' else 'lost after'}":
                raise MarketoServiceError("No complete answer", action="Run again later")
            if step.disturbance == "killed sending" and kind == "after":
                dead = True
                raise KilledError

        return happen

    originals = {name: getattr(Ledger, name) for name in ("note_sent", "note_answers", "note_leads")}

    def noted(name: str) -> Callable[..., None]:
        def note(self: Ledger, *arguments: Any) -> None:
            nonlocal dead
            count["notes"] += 1
            if dead or (step.disturbance == "killed noting" and count["notes"] == 2 * step.at):
                dead = True
                raise KilledError
            originals[name](self, *arguments)

        return note

    marketo.before, marketo.after = write("before"), write("after")
    marketo.calls_left = 3 + step.at if step.disturbance == "quota" else None
    for name in originals:
        setattr(Ledger, name, noted(name))
    try:
        yield
    except (MarketoServiceError, KilledError):
        assert step.disturbance not in ("none", "quota")
    finally:
        for name, original in originals.items():
            setattr(Ledger, name, original)
        marketo.before = marketo.after = lambda kind, name: None
        marketo.calls_left = None


@given(steps)
@sampling(max_examples=60, deadline=None, derandomize=True)
def test_one_clean_run_makes_marketo_equal_to_the_release(happened: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings, world = settings_for(Path(folder)), World()
        client: Any = world.marketo
        for number, step in enumerate(happened):
            world.publish(settings, step, number)
            world.happens(step)
            with disturbed(world.marketo, step):
                load(client, settings, accept_deletes=True)
        load(client, settings, accept_deletes=True)
        world.check(happened[-1])
        world.marketo.calls.clear()
        load(client, settings)
        assert world.marketo.writes() == []
