"""Make an organisation of any size: the five seed files the stand-in starts from.

Everything about a row follows from (seed, table, row number), so nothing is remembered between rows: memory does not
grow with the organisation, and the same arguments write the same bytes on every machine. Proportions, per
opportunity: 0.5 contacts, 0.2 accounts, 2 connection rows (one connection and its mirror), and 12 roles in all.

The rare kinds of rows (merge chains, cycles, masters and customers that do not exist, inactive people, connections to
users and accounts) come at fixed row numbers: an organisation of 5,000 opportunities has every one of them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path

from emulator import generate_text as words

Row = dict[str, object]
"""One row in Web API shape."""

_EPOCH = datetime(2022, 1, 3, 8, tzinfo=UTC)
_DAYS = 1400
_TYPE = "@Microsoft.Dynamics.CRM.lookuplogicalname"
_OBJECT_TYPE_CODES = {"account": 1, "contact": 2, "opportunity": 3, "lead": 4, "systemuser": 8, "team": 9}
_CURRENCIES = ((1.0, 70), (0.92, 15), (0.79, 10), (150.0, 5))
_LAST = 10**12
"""Rows of different tables never share a `versionnumber`: each table has its own range up to this one."""


class _Maker:
    """The numbers of one organisation: ids, sizes and a random source per row."""

    def __init__(self, *, opportunities: int, seed: int) -> None:
        self.opportunities = opportunities
        self.contacts = max(1, opportunities // 2)
        self.accounts = max(1, opportunities // 5)
        self.key = seed.to_bytes(8, "big", signed=True)

    def id(self, table: str, number: int) -> str:
        """The UUID of row `number` (any number: one past the end gives an id that does not exist)."""
        text = blake2b(b"%s %d" % (table.encode(), number), digest_size=16, key=self.key).hexdigest()
        return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-8{text[17:20]}-{text[20:]}"

    def random(self, table: str, number: int) -> random.Random:
        """A random source for one row, independent of all other rows."""
        digest = blake2b(b"%s %d" % (table.encode(), number), digest_size=8, key=self.key + b"random").digest()
        return random.Random(int.from_bytes(digest, "big"))


def generate(directory: Path, *, opportunities: int, seed: int) -> None:
    """Write accounts.json, contacts.json, opportunities.json, connections.json and connectionroles.json.

    Args:
        directory: folder to write to; made if it does not exist, files of these names are replaced.
        opportunities: number of opportunities, at least 1; the other tables follow from it.
        seed: any whole number of 64 bits; the same seed and size give the same bytes.

    Raises:
        ValueError: `opportunities` is below 1.
    """
    if opportunities < 1:
        raise ValueError(f"opportunities must be at least 1, not {opportunities}")
    directory.mkdir(parents=True, exist_ok=True)
    maker = _Maker(opportunities=opportunities, seed=seed)
    for entity_set, rows in (
        ("connectionroles", _roles(maker)),
        ("accounts", _accounts(maker)),
        ("contacts", _contacts(maker)),
        ("opportunities", _opportunities(maker)),
        ("connections", _connections(maker)),
    ):
        _write(directory / f"{entity_set}.json", rows)


def _write(path: Path, rows: Iterator[Row]) -> None:
    """One row per line; a half-written file never has the final name."""
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    partial = path.with_suffix(".partial")
    with partial.open("w", encoding="utf-8", newline="\n", buffering=1 << 20) as file:
        separator = "[\n"
        for row in rows:
            file.write(separator)
            file.write(encode(row))
            separator = ",\n"
        file.write("\n]\n")
    partial.replace(path)


def _set(row: Row, column: str, table: str, identifier: str) -> None:
    row[f"_{column}_value"] = identifier
    row[f"_{column}_value{_TYPE}"] = table


def _stamps(row: Row, source: random.Random, number: int, table: int) -> datetime:
    """createdon, modifiedon (set back before createdon in one row of 500) and versionnumber."""
    created = _EPOCH + timedelta(seconds=source.randrange(_DAYS * 86400))
    modified = created + timedelta(seconds=source.randrange(90 * 86400))
    if number % 500 == 123:
        modified = created - timedelta(days=400)
    row["createdon"] = f"{created:%Y-%m-%dT%H:%M:%SZ}"
    row["modifiedon"] = f"{modified:%Y-%m-%dT%H:%M:%SZ}"
    row["versionnumber"] = table * _LAST // 10 + number + 1
    return created


def _merge(maker: _Maker, row: Row, table: str, number: int, size: int) -> None:
    """2 % of contacts and accounts are merged: mostly into the next row; some chains, cycles and lost masters."""
    row["merged"] = False
    if number % 50 != 7 or number + 1 >= size:
        return
    place, master = number % 500, number + 1
    if place == 107 and number + 50 < size:  # into a row that is itself merged
        master = number + 50
    elif place == 307:  # a master that does not exist
        master = size + number
    elif place == 407 and number + 50 < size:  # a cycle of two
        master = number + 50
    elif place == 457:
        master = number - 50
    row.update(merged=True, statecode=1, statuscode=2)
    _set(row, "masterid", table, maker.id(table, master))


def _roles(maker: _Maker) -> Iterator[Row]:
    for number, (name, category) in enumerate(words.ROLES):
        row: Row = {"connectionroleid": maker.id("connectionrole", number), "name": name, "category": category}
        row.update(statecode=0, statuscode=1, componentstate=0)
        _stamps(row, maker.random("connectionrole", number), number, 1)
        yield row


def _accounts(maker: _Maker) -> Iterator[Row]:
    for number in range(maker.accounts):
        source = maker.random("account", number)
        row: Row = {"accountid": maker.id("account", number)}
        row["name"] = f"{source.choice(words.COMPANIES)} {source.choice(words.CITIES)} {number}"
        row["address1_city"] = source.choice(words.CITIES)
        row["telephone1"] = f"+1 555 01{source.randrange(100):02d} {source.randrange(10000):04d}"
        row["numberofemployees"] = source.randrange(1, 20000)
        inactive = source.random() < 0.04
        row.update(statecode=int(inactive), statuscode=1 + inactive)
        _merge(maker, row, "account", number, maker.accounts)
        _set(row, "primarycontactid", "contact", maker.id("contact", source.randrange(maker.contacts)))
        _set(row, "ownerid", "systemuser", maker.id("systemuser", source.randrange(50)))
        _stamps(row, source, number, 2)
        yield row


def _contacts(maker: _Maker) -> Iterator[Row]:
    for number in range(maker.contacts):
        source = maker.random("contact", number)
        row: Row = {"contactid": maker.id("contact", number)}
        given, family = source.choice(words.GIVEN_NAMES), source.choice(words.FAMILY_NAMES)
        row.update(firstname=given, lastname=family, fullname=f"{given} {family}")
        row["emailaddress1"] = f"person{number}@example.{'com' if number % 3 else 'org'}"
        row["telephone1"] = f"+1 555 01{source.randrange(100):02d} {source.randrange(10000):04d}"
        inactive = source.random() < 0.05
        row.update(statecode=int(inactive), statuscode=1 + inactive)
        missing = maker.accounts if number % 1000 == 611 else 0
        parent = 0.0 if missing else source.random()
        if parent < 0.80:
            _set(row, "parentcustomerid", "account", maker.id("account", missing + source.randrange(maker.accounts)))
        elif parent < 0.83:
            _set(row, "parentcustomerid", "contact", maker.id("contact", source.randrange(maker.contacts)))
        elif parent < 0.90:
            row["_parentcustomerid_value"] = None
        _merge(maker, row, "contact", number, maker.contacts)
        _set(row, "ownerid", "systemuser", maker.id("systemuser", source.randrange(50)))
        _stamps(row, source, number, 3)
        yield row


def _opportunities(maker: _Maker) -> Iterator[Row]:
    rates, weights = zip(*_CURRENCIES, strict=True)
    for number in range(maker.opportunities):
        source = maker.random("opportunity", number)
        row: Row = {"opportunityid": maker.id("opportunity", number)}
        row["name"] = (
            f"{source.choice(words.PRODUCTS)} for {source.choice(words.COMPANIES)} {source.choice(words.CITIES)}"
        )
        _customer(maker, row, source, number)
        state = source.choices((0, 1, 2), (60, 25, 15))[0]
        row.update(statecode=state, statuscode=(1, 3, source.choice((4, 5)))[state])
        currency = source.choices(range(4), weights)[0]
        _set(row, "transactioncurrencyid", "transactioncurrency", maker.id("transactioncurrency", currency))
        _money(row, source, float(rates[currency]), state, number)
        created = _stamps(row, source, number, 4)
        estimated = created.date() + timedelta(days=source.randrange(10, 400))
        row["estimatedclosedate"] = estimated.isoformat()
        if state and number % 20:
            row["actualclosedate"] = (estimated + timedelta(days=source.randrange(-30, 30))).isoformat()
        row["closeprobability"] = (source.randrange(5, 95), 100, 0)[state]
        row["salesstage"] = source.randrange(4) if number % 1000 != 77 else 104800003
        row["opportunityratingcode"] = source.randrange(1, 4)
        row["stepname"] = f"{source.randrange(1, 5)}-{source.choice(words.PRODUCTS)}"
        owner = "team" if number % 12 == 5 else "systemuser"
        _set(row, "ownerid", owner, maker.id(owner, source.randrange(50)))
        row["_owningbusinessunit_value"] = maker.id("businessunit", source.randrange(4))
        row["_createdby_value"] = maker.id("systemuser", source.randrange(50))
        row["_modifiedby_value"] = maker.id("systemuser", source.randrange(50))
        row.update(purchaseprocess=source.randrange(3), purchasetimeframe=source.randrange(5), need=source.randrange(4))
        row.update(budgetstatus=source.randrange(4), msdyn_forecastcategory=100000000 + source.randrange(1, 7))
        row.update(decisionmaker=source.random() < 0.5, evaluatefit=source.random() < 0.5)
        row.update(identifycompetitors=source.random() < 0.5, developproposal=source.random() < 0.5)
        row["emailaddress"] = f"deal{number}@example.com"
        row["description"] = " ".join(source.choices(words.SENTENCES, k=2))
        yield row


def _customer(maker: _Maker, row: Row, source: random.Random, number: int) -> None:
    """52 % accounts, 47 % contacts, 1 % nobody; 1 in 400 points to a row that does not exist."""
    missing = number % 400 == 99
    account = maker.id("account", source.randrange(maker.accounts) + missing * maker.accounts)
    contact = maker.id("contact", source.randrange(maker.contacts) + missing * maker.contacts)
    kind = source.random()
    if kind < 0.52:
        _set(row, "customerid", "account", account)
        _set(row, "parentaccountid", "account", account)
    elif kind < 0.99:
        _set(row, "customerid", "contact", contact)
    else:
        row["_customerid_value"] = None
    if source.random() < 0.4:
        _set(row, "parentcontactid", "contact", contact)


def _money(row: Row, source: random.Random, rate: float, state: int, number: int) -> None:
    estimated = round(source.lognormvariate(10, 1.1) * rate, 2)
    row["estimatedvalue"] = estimated
    row["estimatedvalue_base"] = round(estimated / rate, 2)
    if state == 1 and number % 10:
        actual = round(estimated * source.uniform(0.7, 1.1), 2)
        row["actualvalue"] = actual
        row["actualvalue_base"] = round(actual / rate, 2)
    row["budgetamount"] = round(estimated * 1.2, 2)
    row["budgetamount_base"] = round(estimated * 1.2 / rate, 2)
    row["totalamount"] = estimated
    row["totalamount_base"] = round(estimated / rate, 2)
    row["exchangerate"] = rate


def _connections(maker: _Maker) -> Iterator[Row]:
    """One connection per opportunity number, each as two mirrored rows (one in 200 keeps only one of them)."""
    for number in range(maker.opportunities):
        source = maker.random("connection", number)
        ends = _ends(maker, source, number)
        kind = source.random()
        role = None
        if kind < 0.78:
            role = maker.id("connectionrole", source.randrange(len(words.STAKEHOLDER_ROLES)))
        elif kind < 0.94:
            role = maker.id("connectionrole", source.randrange(len(words.STAKEHOLDER_ROLES), len(words.ROLES)))
        roles = (None, role if number % 3000 != 2222 else maker.id("connectionrole", len(words.ROLES)))
        inactive = source.random() < 0.04
        force: Row = {"statecode": int(inactive), "statuscode": 1 + inactive}
        if source.random() < 0.06:
            start = _EPOCH + timedelta(days=source.randrange(_DAYS))
            force["effectivestart"] = f"{start:%Y-%m-%dT00:00:00Z}"
            if source.random() < 0.6:
                force["effectiveend"] = f"{start + timedelta(days=source.randrange(1, 900)):%Y-%m-%dT00:00:00Z}"
        owner = maker.id("systemuser", source.randrange(50))
        _stamps(force, source, 2 * number, 5)
        for side in (0, 1):
            if number % 200 == 31 and side == number // 200 % 2:
                continue
            yield (
                _connection(maker, 2 * number + side, (ends[side], ends[1 - side]), (roles[side], roles[1 - side]))
                | force
                | {
                    "ismaster": (number + side) % 2 == 0,
                    "_ownerid_value": owner,
                    "_ownerid_value" + _TYPE: "systemuser",
                    "versionnumber": 5 * _LAST // 10 + 2 * number + side + 1,
                }
            )


def _ends(maker: _Maker, source: random.Random, number: int) -> tuple[tuple[str, str], tuple[str, str]]:
    """(opportunity, somebody): 88 % contacts, else accounts, users, teams and leads; a few ends do not exist."""
    deal = source.randrange(maker.opportunities) + (maker.opportunities if number % 1500 == 700 else 0)
    other = source.choices(("contact", "account", "systemuser", "team", "lead"), (88, 4, 4, 2, 2))[0]
    sizes = {"contact": maker.contacts, "account": maker.accounts}
    row = source.randrange(sizes.get(other, 50))
    if number % 1500 == 1400:
        other, row = "contact", maker.contacts + row
    return ("opportunity", maker.id("opportunity", deal)), (other, maker.id(other, row))


def _connection(
    maker: _Maker, number: int, ends: tuple[tuple[str, str], tuple[str, str]], roles: tuple[str | None, str | None]
) -> Row:
    row: Row = {"connectionid": maker.id("connection", number)}
    for side, (table, identifier), role in zip((1, 2), ends, roles, strict=True):
        _set(row, f"record{side}id", table, identifier)
        row[f"record{side}objecttypecode"] = _OBJECT_TYPE_CODES[table]
        if role is not None:
            _set(row, f"record{side}roleid", "connectionrole", role)
    _set(row, "relatedconnectionid", "connection", maker.id("connection", number ^ 1))
    return row
