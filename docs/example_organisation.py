"""Eighteen months of an invented organisation, published week by week: what the pages about the examples show.

It equips buildings, in euro (its base currency), dollars and pounds. Everything follows from one seed and fixed
moments, so the pages come out the same on every machine. What the answers say about selling was put in here and is no
finding: deals with an economic buyer are won more often because `WON_MORE_OFTEN` says so.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from emulator.generate_text import CITIES, COMPANIES, FAMILY_NAMES, GIVEN_NAMES, PRODUCTS
from opportunity_sync.data_root import DataRoot, open_data_root
from opportunity_sync.export import export
from opportunity_sync.lake import Lake
from opportunity_sync.publish import publish
from opportunity_sync.release import Run
from opportunity_sync.settings import PROJECT, Settings
from opportunity_sync.tables import CORE, READ_ORDER
from opportunity_sync.validate import validate
from opportunity_sync.warehouse import transform
from tests.lakes import write_batch
from tests.small_organisation import let_pass

SEED = 20260615
FOUNDED = datetime(2025, 1, 6, 8, tzinfo=UTC)
NOW = datetime(2026, 6, 15, 6, tzinfo=UTC)
"""The run of the newest release."""
WEEKS = 13
READ_FOR = timedelta(minutes=2)
"""A run reads its tables at its beginning; the release is built this much later."""

ACCOUNTS, CONTACTS, DEALS = 36, 110, 260
COMPANY_NAMES, GIVEN, FAMILY = (
    [name for name in names if max(name) < "\u0250"] for names in (COMPANIES, GIVEN_NAMES, FAMILY_NAMES)
)
"""Those in Latin letters: the font of the plots has no others."""
RATES = {"eur": 1.0, "usd": 1.1, "gbp": 0.85}
STAKEHOLDER_ROLES = ("Champion", "Decision Maker", "Economic Buyer", "End User", "Influencer", "Technical Buyer")
EARLIER = "o118"
"""An open deal that is to close earlier than planned, on the very day of the newest release."""
WON_MORE_OFTEN = {"Economic Buyer": 0.25, "Champion": 0.12, "End User": -0.08}
PROBABILITIES = (10, 30, 60, 80)
"""Per sales stage, in percent."""
DELETED = {193: NOW - timedelta(days=3, hours=15), 138: NOW - timedelta(days=40)}
"""Deals that somebody had entered twice, and when they were deleted."""

Values = dict[str, object]


@dataclass(frozen=True)
class Event:
    """A moment at which a row was created, changed or (without values) deleted in Dynamics."""

    at: datetime
    table: str
    key: str
    values: Values | None


def publish_example(data: Path, *, weeks: int = WEEKS, validated: bool = True) -> Path:
    """Publish one release a week into an empty data root, the last one at `NOW`.

    Args:
        data: the data root.
        weeks: number of releases.
        validated: whether the last release is validated; the others are let pass, as nobody looks at their results.

    Returns:
        The published DuckDB file.
    """
    settings = Settings(data=data, include=PROJECT / "include")
    lake = Lake(open_data_root(data).raw)
    events = sorted(_events(random.Random(SEED)), key=lambda event: (event.at, event.table, event.key))  # noqa: S311
    rows: dict[str, dict[str, Values]] = {table: {} for table in READ_ORDER}
    applied = 0
    for week in reversed(range(weeks)):
        began = NOW - timedelta(weeks=week)
        touched: dict[str, dict[str, None]] = {table: {} for table in READ_ORDER}
        while applied < len(events) and events[applied].at < began:
            event = events[applied]
            applied += 1
            _apply(rows[event.table], event, version=applied)
            touched[event.table][event.key] = None
        for table in READ_ORDER:
            write_batch(
                lake,
                table,
                [rows[table][key] for key in touched[table] if key in rows[table]],
                mode="full" if applied == 0 or week == weeks - 1 else "changes",
                deletes=[key for key in touched[table] if key not in rows[table]] if week < weeks - 1 else (),
                at=began,
            )
        run = Run(run_id=f"scheduled__{began.isoformat()}", started_at=began)
        release = transform(settings, run, now=began + READ_FOR)
        if validated and week == 0:
            validate(settings, release.release_id, now=began + READ_FOR)
        else:
            let_pass(settings, release)
        publish(settings, release.release_id)
        if week == 0:
            export(settings, release.release_id)
    return DataRoot(data).live_file


def _apply(rows: dict[str, Values], event: Event, version: int) -> None:
    if event.values is None:
        del rows[event.key]
        return
    row = rows.setdefault(event.key, {next(iter(CORE[event.table])): event.key, "createdon": event.at, "statecode": 0})
    row.update(event.values, modifiedon=event.at, versionnumber=version)


def _events(source: random.Random) -> Iterator[Event]:
    for number, role in enumerate((*STAKEHOLDER_ROLES, "Account Manager")):
        category = 1000 if number < len(STAKEHOLDER_ROLES) else 1001
        yield Event(FOUNDED, "connectionrole", role, {"name": role, "category": category})
    names = [f"{company} {city}" for company in COMPANY_NAMES for city in CITIES]
    accounts = {f"a{number}": name for number, name in enumerate(source.sample(names, ACCOUNTS))}
    for key, name in accounts.items():
        yield Event(FOUNDED, "account", key, {"name": name})
    yield _merge("account", "a20", into="a3", at=NOW - timedelta(days=4, hours=17))
    contacts: dict[str, tuple[str, str | None]] = {}
    for number in range(CONTACTS):
        name = f"{source.choice(GIVEN)} {source.choice(FAMILY)}"
        account = _one_of(source, list(accounts)) if number % 8 else None
        contacts[f"c{number}"] = (name, account)
        values: Values = {"fullname": name, "emailaddress1": f"person{number}@example.com"}
        if account:
            values |= {"parentcustomerid": account, "parentcustomerid_type": "account"}
        elif number == 8:
            values |= {"parentcustomerid": "unread", "parentcustomerid_type": "account"}
        elif number % 16 == 0 and number:  # an assistant who was filed under a colleague
            values |= {"parentcustomerid": f"c{number - 1}", "parentcustomerid_type": "contact"}
        yield Event(FOUNDED + timedelta(days=3 * number), "contact", f"c{number}", values)
        if number % 6 == 5:  # left the company
            left = FOUNDED + timedelta(days=3 * number + source.randrange(60, 150))
            yield Event(left, "contact", f"c{number}", {"statecode": 1})
    yield _merge("contact", "c12", into="c41", at=NOW - timedelta(days=30))
    for number in range(DEALS):
        deal = list(_deal(random.Random(f"{SEED} {number}"), number, accounts, contacts))  # noqa: S311
        yield from _until(deal, DELETED[number]) if number in DELETED else deal
    yield Event(NOW - timedelta(days=9), "opportunity", EARLIER, {"estimatedclosedate": NOW.date()})


def _until(events: list[Event], deleted: datetime) -> list[Event]:
    """The life of a deal that was deleted, with its connections, as Dynamics does it."""
    happened = [event for event in events if event.at < deleted]
    rows = dict.fromkeys((event.table, event.key) for event in happened)
    return [*happened, *(Event(deleted, table, key, None) for table, key in rows)]


def _merge(table: str, key: str, *, into: str, at: datetime) -> Event:
    return Event(at, table, key, {"merged": True, "masterid": into, "statecode": 1})


def _one_of(source: random.Random, keys: list[str]) -> str:
    """One of them, the first ones more often."""
    return source.choices(keys, [(place + 2) ** -0.7 for place in range(len(keys))])[0]


def _deal(
    source: random.Random, number: int, accounts: dict[str, str], contacts: dict[str, tuple[str, str | None]]
) -> Iterator[Event]:
    key = f"o{number}"
    created = FOUNDED + timedelta(minutes=source.randrange(1, int((NOW - FOUNDED).total_seconds() // 60)))
    end = created + timedelta(days=source.randrange(60, 200))
    customer, names = _customer(source, number, accounts, contacts)
    currency = source.choices(list(RATES), (70, 18, 12))[0]
    base = round(source.lognormvariate(10.3, 0.8), -2)
    has_estimate, has_date = number % 40 != 8, number % 60 != 17
    yield Event(
        created,
        "opportunity",
        key,
        {
            "name": f"{source.choice(PRODUCTS)} for {names}",
            "statuscode": 1,
            "salesstage": 0,
            "closeprobability": PROBABILITIES[0],
            "transactioncurrencyid": currency,
            "estimatedvalue": round(base * RATES[currency], 2) if has_estimate else None,
            "estimatedvalue_base": base if has_estimate else None,
            "estimatedclosedate": end.date() if has_date else None,
            "ownerid": f"seller{source.randrange(6)}",
            "ownerid_type": "systemuser",
        }
        | customer,
    )
    roles, connections = _stakeholders(source, number, created, end, contacts)
    yield from connections
    changes: list[tuple[datetime, Values]] = []
    for _ in range(source.choices((0, 1, 2, 3), (50, 27, 15, 8))[0]):  # the customer needs more time
        noticed = end - timedelta(days=source.randrange(2, 20), hours=source.randrange(9))
        end += timedelta(days=source.randrange(14, 75))
        if has_date:
            changes.append((noticed, {"estimatedclosedate": end.date()}))
    for stage in (1, 2, 3):
        moved = created + (end - created) * (0.28 * stage + source.uniform(-0.1, 0.05))
        changes.append((moved, {"salesstage": stage, "closeprobability": PROBABILITIES[stage]}))
    changes.sort(key=lambda change: change[0])
    fate, luck = source.random(), source.random()
    if fate < 0.13:  # forgotten
        changes = changes[: source.randrange(len(changes))]
    elif luck < 0.3 + sum(WON_MORE_OFTEN.get(role, 0) for role in roles):
        closed = end + timedelta(days=source.randrange(-20, 5))
        realised = round(base * source.uniform(0.85, 1.1), 2)
        changes = [change for change in changes if change[0] < closed]
        changes.append((closed, _closed(closed.date(), 1, 3, realised, RATES[currency])))
    else:
        closed = created + (end - created) * source.uniform(0.35, 1)
        changes = [change for change in changes if change[0] < closed]
        changes.append((closed, _closed(closed.date(), 2, source.choice((4, 5)))))
    for at, values in changes:
        yield Event(at, "opportunity", key, values)


def _closed(day: date, state: int, status: int, realised: float | None = None, rate: float = 1) -> Values:
    values: Values = {"statecode": state, "statuscode": status, "actualclosedate": day}
    values |= {"closeprobability": 100 if state == 1 else 0}
    if realised is not None:
        values |= {"actualvalue": round(realised * rate, 2), "actualvalue_base": realised}
    return values


def _customer(
    source: random.Random, number: int, accounts: dict[str, str], contacts: dict[str, tuple[str, str | None]]
) -> tuple[Values, str]:
    """The potential customer, and what to call it: an account, a contact, nobody, or a row nobody has read."""
    account, contact = _one_of(source, list(accounts)), _one_of(source, list(contacts))
    person, company = contacts[contact]
    if number % 30 == 11:
        return {}, "an unnamed caller"
    if number % 60 == 21:
        return {"customerid": f"unread{number}", "customerid_type": "contact"}, "a restricted contact"
    if number % 100 == 77:
        return {"customerid": "unread", "customerid_type": "account"}, "a restricted account"
    if number % 9 < 5:
        return {"customerid": account, "customerid_type": "account"}, accounts[account]
    return {"customerid": contact, "customerid_type": "contact"}, accounts[company] if company else person


def _stakeholders(
    source: random.Random, number: int, created: datetime, end: datetime, contacts: dict[str, tuple[str, str | None]]
) -> tuple[set[str], list[Event]]:
    """The roles of a deal, and their connections; Dataverse stores every connection once from either end."""
    roles = source.sample([*STAKEHOLDER_ROLES, "Account Manager"], source.choices(range(5), (20, 28, 26, 16, 10))[0])
    people = [_one_of(source, list(contacts)) for _ in roles]
    if number % 5 == 4:  # one person does it all
        people = people[:1] * len(people)
    elif len(people) > 2:  # one person in two roles
        people[1] = people[0]
    if roles and number % 7 == 3:  # two people in the same role
        roles.append(roles[0])
        people.append(_one_of(source, list(contacts)))
    events = []
    for place, (role, contact) in enumerate(zip(roles, people, strict=True)):
        at = created + (end - created) * source.uniform(0.02, 0.5)
        for side, other in ((1, 2), (2, 1)):
            values: Values = {
                f"record{side}id": f"o{number}",
                f"record{side}id_type": "opportunity",
                f"record{other}id": contact if number != 70 else "unread70",
                f"record{other}id_type": "contact",
                f"record{other}roleid": role,
            }
            events.append(Event(at, "connection", f"k{number}-{place}-{side}", values))
    return set(roles), events
