"""Every question in examples/sql/ has the answer that plain Python finds in the Parquet files and in older releases."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
import sqlglot

from docs.examples_page import CHAPTERS, FOLDER, examples_page, load_example
from opportunity_sync.settings import PROJECT

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("examples")]

NAMES = sorted(path.stem for path in FOLDER.glob("*.sql"))

Row = dict[str, Any]
Table = Callable[[str], list[Row]]
Answer = Callable[[str], list[Row]]


@pytest.fixture(scope="session")
def answer(example: Path) -> Answer:
    """The rows an example gives, as a client with a read-only connection sees them."""

    def run(name: str) -> list[Row]:
        with duckdb.connect(str(example / "opportunities.duckdb"), read_only=True) as connection:
            return fetch(connection, (FOLDER / f"{name}.sql").read_text(encoding="utf-8"))

    return run


@pytest.fixture(scope="session")
def table(example: Path) -> Table:
    """The rows of a table, from the Parquet export of the newest release."""
    newest = max((example / "releases").iterdir()) / "parquet"

    def read(name: str) -> list[Row]:
        return pq.read_table(newest / f"{name}.parquet").to_pylist()

    return read


@pytest.fixture(scope="session")
def past(example: Path) -> dict[datetime, dict[Any, Row]]:
    """The opportunities of every kept release by id, from the file of that very release: no history is involved."""
    found = {}
    for folder in sorted((example / "releases").iterdir()):
        with duckdb.connect(str(folder / "opportunities.duckdb"), read_only=True) as connection:
            ((moment,),) = connection.execute("select released_at from release").fetchall()
            rows = fetch(connection, "select * from opportunities")
        found[moment] = {row["opportunity_id"]: row for row in rows}
    return found


@pytest.fixture(scope="session")
def today(past: dict[datetime, dict[Any, Row]]) -> date:
    return max(past).date()


def fetch(connection: duckdb.DuckDBPyConnection, sql: str) -> list[Row]:
    found = connection.execute(sql)
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def total(rows: Iterable[Row], column: str = "amount_base") -> Decimal | None:
    values = [row[column] for row in rows if row[column] is not None]
    return sum(values, Decimal()) if values else None


def grouped(rows: Iterable[Row], *columns: str) -> dict[Any, list[Row]]:
    found = defaultdict(list)
    for row in rows:
        found[tuple(row[column] for column in columns)].append(row)
    return found


def open_deals(table: Table) -> list[Row]:
    return [row for row in table("opportunities") if row["state_code"] == 0]


def people(table: Table) -> dict[Any, set[Any]]:
    """Contacts of each opportunity."""
    found = defaultdict(set)
    for row in table("opportunity_contact_roles"):
        found[row["opportunity_id"]].add(row["contact_id"])
    return found


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_one_select_that_begins_with_its_question(name: str) -> None:
    text = (FOLDER / f"{name}.sql").read_text(encoding="utf-8")
    example = load_example(name)
    assert re.fullmatch(r"[A-Z][^?]+\?", example.question)
    assert example.reading.endswith(".")
    assert example.reading.startswith("One row per ")
    (statement,) = sqlglot.parse(text, read="duckdb")
    assert isinstance(statement, sqlglot.exp.Select)
    assert "--" not in example.sql
    assert text == text.rstrip() + "\n"
    assert max(map(len, text.splitlines())) <= 120
    code = re.sub(r"'[^']*'", "", example.sql)
    assert code == code.lower()


@pytest.mark.parametrize("name", NAMES)
def test_no_example_depends_on_the_present_day_or_adds_up_amounts_of_several_currencies(name: str) -> None:
    sql = load_example(name).sql
    assert re.findall(r"now\(\)|current_date|current_timestamp|today\(\)", sql) == []
    if name != "pipeline_by_currency":
        assert re.findall(r"\b(amount|estimated_value|actual_value)\b(?! as|')", sql) == []


def test_the_page_shows_every_example_once() -> None:
    assert sorted(name for names in CHAPTERS.values() for name in names) == NAMES
    assert len(NAMES) >= 12


@pytest.mark.parametrize("name", NAMES)
def test_every_example_has_an_answer_with_named_columns(name: str, answer: Answer) -> None:
    rows = answer(name)
    assert rows
    assert [column for column in rows[0] if not re.fullmatch(r"[a-z][a-z_]*", column)] == []


def test_the_documentation_shows_these_answers(example: Path) -> None:
    shown = (PROJECT / "docs" / "examples.md").read_text(encoding="utf-8").partition("\n\n")[2]
    assert shown == examples_page(example / "opportunities.duckdb")


def test_pipeline_by_stage_and_account(answer: Answer, table: Table) -> None:
    rows = answer("pipeline_by_stage_and_account")
    deals = open_deals(table)
    by_account = grouped(deals, "account_id")
    expected = Counter(
        (
            group[0]["account_name"] or ("(account not extracted)" if account else "(no account)"),
            stage or "(no stage)",
            len(group),
            total(group),
            sum(row["amount_base"] is None for row in group),
            total(by_account[account,]),
        )
        for (account, _, stage), group in grouped(deals, "account_id", "sales_stage_code", "sales_stage").items()
    )
    assert Counter(tuple(row.values()) for row in rows) == expected
    assert sum(row["deals"] for row in rows) == len(deals)
    totals = [row["account_amount_base"] for row in rows if row["account_amount_base"] is not None]
    assert totals == sorted(totals, reverse=True)


def test_pipeline_by_close_month(answer: Answer, table: Table, today: date) -> None:
    def month(row: Row) -> str:
        day = row["estimated_close_date"]
        return f"{day:%Y-%m}" if day else "(no date)"

    deals = open_deals(table)
    expected = {}
    for close_month in {month(row) for row in deals}:
        group = [row for row in deals if month(row) == close_month]
        both = [row for row in group if row["amount_base"] is not None and row["close_probability"] is not None]
        weighted = sum((row["amount_base"] * row["close_probability"] / 100 for row in both), Decimal())
        expected[close_month] = (
            len(group),
            sum(row["estimated_close_date"] is not None and row["estimated_close_date"] < today for row in group),
            total(group),
            round(weighted, 2) if both else None,
            len(group) - len(both),
        )
    rows = [tuple(row.values()) for row in answer("pipeline_by_close_month")]
    assert {name: values for name, *values in rows} == {name: list(values) for name, values in expected.items()}
    assert [row[0] for row in rows] == sorted(expected, reverse=True)


def test_pipeline_by_currency_adds_up_only_the_organisations_currency(answer: Answer, table: Table) -> None:
    deals = open_deals(table)
    rows = {row["currency_id"]: row for row in answer("pipeline_by_currency")}
    assert len(rows) == 3
    for (currency,), group in grouped(deals, "currency_id").items():
        row = rows[currency]
        assert (row["deals"], row["amount"], row["amount_base"]) == (len(group), total(group, "amount"), total(group))
    assert sorted(row["units_per_base_unit"] for row in rows.values()) == [0.85, 1.0, 1.1]
    assert sum(row["percent_of_pipeline"] for row in rows.values()) == pytest.approx(100, abs=0.2)


def test_stale_open_deals(answer: Answer, table: Table, past: dict[datetime, dict[Any, Row]]) -> None:
    limit = max(past) - timedelta(days=90)
    expected = [row["name"] for row in open_deals(table) if row["modified_at"] < limit]
    rows = answer("stale_open_deals")
    assert Counter(row["opportunity"] for row in rows) == Counter(expected)
    assert min(row["days_untouched"] for row in rows) >= 90


def test_won_and_lost_by_quarter(answer: Answer, table: Table) -> None:
    closed = [row for row in table("opportunities") if row["state_code"] in (1, 2)]
    quarters: dict[str, list[Row]] = defaultdict(list)
    for row in closed:
        day = row["close_date"]
        quarters[f"{day.year}-Q{(day.month + 2) // 3}" if day else "(no date)"].append(row)
    rows = answer("won_and_lost_by_quarter")
    assert [row["quarter"] for row in rows] == sorted(quarters, reverse=True)
    for row in rows:
        won = [deal for deal in quarters[row["quarter"]] if deal["state"] == "Won"]
        lost = [deal for deal in quarters[row["quarter"]] if deal["state"] == "Lost"]
        assert (row["won"], row["lost"]) == (len(won), len(lost))
        assert (row["won_amount_base"], row["lost_amount_base"]) == (total(won), total(lost))
        assert row["win_rate_percent"] == pytest.approx(100 * len(won) / (len(won) + len(lost)), abs=0.05)
        assert row["deals_without_amount"] == sum(deal["amount_base"] is None for deal in won + lost)


def test_win_rate_by_stakeholder_role_counts_a_deal_once_per_role(answer: Answer, table: Table) -> None:
    closed = {row["opportunity_id"]: row["state_code"] == 1 for row in table("opportunities") if row["state_code"] != 0}
    with_role: dict[str, set[Any]] = defaultdict(set)
    for row in table("opportunity_contact_roles"):
        if row["role_source"] == "stakeholder" and row["opportunity_id"] in closed:
            with_role[row["role"]].add(row["opportunity_id"])
    rows = {row["role"]: row for row in answer("win_rate_by_stakeholder_role")}
    assert rows.keys() == with_role.keys()
    for role, deals in with_role.items():
        others = closed.keys() - deals
        rate, other_rate = (100 * sum(closed[deal] for deal in some) / len(some) for some in (deals, others))
        row = rows[role]
        assert (row["deals_with_role"], row["deals_without_role"]) == (len(deals), len(others))
        assert row["win_rate_with_role"] == pytest.approx(rate, abs=0.051)
        assert row["win_rate_without_role"] == pytest.approx(other_rate, abs=0.051)
        assert row["difference"] == pytest.approx(rate - other_rate, abs=0.051)


def test_open_deals_without_contacts(answer: Answer, table: Table, today: date) -> None:
    involved = people(table)
    expected = Counter(
        (row["name"], row["account_rule"], row["amount_base"], (today - row["created_at"].date()).days)
        for row in open_deals(table)
        if not involved[row["opportunity_id"]]
    )
    found = answer("open_deals_without_contacts")
    names = ("opportunity", "account_rule", "amount_base", "days_open")
    assert Counter(tuple(row[name] for name in names) for row in found) == expected


def test_single_threaded_deals(answer: Answer, table: Table) -> None:
    involved = people(table)
    contacts = {row["contact_id"]: row for row in table("contacts")}
    expected = Counter()
    for row in open_deals(table):
        if len(involved[row["opportunity_id"]]) == 1:
            (contact,) = (contacts[key] for key in involved[row["opportunity_id"]])
            expected[row["name"], row["amount_base"], contact["full_name"], contact["state_code"] == 1] += 1
    found = answer("single_threaded_deals")
    names = ("opportunity", "amount_base", "contact", "contact_is_inactive")
    assert Counter(tuple(row[name] for name in names) for row in found) == expected
    assert {row["contact_is_inactive"] for row in found} == {True, False}
    assert any("," in row["roles"] for row in found)


def test_contacts_in_most_open_deals_counts_a_deal_once_per_person(answer: Answer, table: Table) -> None:
    deals = {row["opportunity_id"]: row for row in open_deals(table)}
    deals_of: dict[Any, list[Row]] = defaultdict(list)
    for key, contacts in people(table).items():
        for contact in contacts if key in deals else ():
            deals_of[contact].append(deals[key])
    names = {row["contact_id"]: row["full_name"] for row in table("contacts")}
    expected = Counter(
        (names[contact], len(some), total(some), len({row["account_id"] for row in some} - {None}))
        for contact, some in deals_of.items()
    )
    found = answer("contacts_in_most_open_deals")
    columns = ("contact", "open_deals", "amount_base", "accounts_of_these_deals")
    assert Counter(tuple(row[column] for column in columns) for row in found) == expected
    assert [row["open_deals"] for row in found] == sorted((row["open_deals"] for row in found), reverse=True)


def test_contacts_with_several_roles(answer: Answer, table: Table) -> None:
    deals = {row["opportunity_id"]: row["name"] for row in open_deals(table)}
    names = {row["contact_id"]: row["full_name"] for row in table("contacts")}
    roles = grouped(table("opportunity_contact_roles"), "opportunity_id", "contact_id")
    expected = Counter(
        (
            deals[deal],
            names[contact],
            frozenset(row["role"] for row in rows),
            any(row["role_source"] == "customer" for row in rows),
        )
        for (deal, contact), rows in roles.items()
        if deal in deals and len(rows) > 1
    )
    found = answer("contacts_with_several_roles")
    assert (
        Counter(
            (row["opportunity"], row["contact"], frozenset(row["roles"].split(", ")), row["is_customer"])
            for row in found
        )
        == expected
    )


def test_accounts_derived_through_contacts(answer: Answer, table: Table) -> None:
    """The rule itself, not its published name: the customer is a contact, and the contact has an account."""
    contacts = {row["contact_id"]: row for row in table("contacts")}
    accounts = {row["account_id"]: row["name"] for row in table("accounts")}
    expected = Counter()
    for row in table("opportunities"):
        contact = contacts.get(row["customer_id"])
        if row["customer_type"] == "contact" and contact and contact["account_id"]:
            expected[row["name"], contact["full_name"], accounts.get(contact["account_id"]), row["amount_base"]] += 1
    found = answer("accounts_derived_through_contacts")
    names = ("opportunity", "customer", "account", "amount_base")
    assert Counter(tuple(row[name] for name in names) for row in found) == expected
    merged = {row["contact_id"] for row in table("contacts") if row["merged_account_id"]}
    deals = [row for row in table("opportunities") if row["account_rule"] == "account_of_customer_contact"]
    assert sum(row["contact_was_merged"] for row in found) == sum(
        row["merged_customer_id"] is not None for row in deals
    )
    assert sum(row["account_was_merged"] for row in found) == sum(row["customer_id"] in merged for row in deals)
    assert all(any(row[column] for row in found) for column in ("contact_was_merged", "account_was_merged"))


def test_deals_moved_by_merges_are_those_that_another_account_or_contact_had_before(
    answer: Answer, past: dict[datetime, dict[Any, Row]]
) -> None:
    """Nothing else moves a deal in this organisation, and both merges happened since the history began."""
    first, last = past[min(past)], past[max(past)]
    columns = ("account_id", "customer_id")
    moved = [row for key, row in last.items() if key in first and any(row[c] != first[key][c] for c in columns)]
    created_since = [row for key, row in last.items() if key not in first]
    found = Counter(row["opportunity"] for row in answer("deals_moved_by_merges"))
    assert len(moved) > 1
    assert Counter(row["name"] for row in moved) <= found
    assert found - Counter(row["name"] for row in moved) <= Counter(row["name"] for row in created_since)


def test_what_changed_this_week_is_the_difference_of_two_releases(
    answer: Answer, past: dict[datetime, dict[Any, Row]]
) -> None:
    before, now = past[sorted(past)[-2]], past[max(past)]
    columns = {
        "state": "state",
        "sales stage": "sales_stage",
        "close date": "close_date",
        "amount": "amount_base",
        "account": "account_name",
    }
    expected = Counter((now[key]["name"], "created", None, now[key]["state"]) for key in now.keys() - before.keys())
    expected.update((before[key]["name"], "deleted", before[key]["state"], None) for key in before.keys() - now.keys())
    for key in now.keys() & before.keys():
        for what, column in columns.items():
            old, new = before[key][column], now[key][column]
            if old != new:
                expected[now[key]["name"], what, *(None if value is None else str(value) for value in (old, new))] += 1
    found = answer("what_changed_this_week")
    assert Counter(tuple(row.values()) for row in found) == expected
    assert {row["what"] for row in found} == {"created", "deleted", *columns}


def test_pipeline_as_of_last_quarter_end_is_that_of_the_release_live_then(
    answer: Answer, past: dict[datetime, dict[Any, Row]]
) -> None:
    then = past[max(moment for moment in past if moment < datetime(2026, 4, 1))]  # noqa: DTZ001 (naive UTC)
    now = past[max(past)]
    found = answer("pipeline_as_of_last_quarter_end")
    assert {row["as_of"] for row in found} == {"2026-03-31"}
    believed = grouped((row for row in then.values() if row["state_code"] == 0), "sales_stage")
    assert [row["sales_stage_then"] for row in found] == ["Qualify", "Develop", "Propose", "Close"]
    assert len(believed) == len(found)
    for row in found:
        group = believed[row["sales_stage_then"],]
        states = Counter(
            now[deal["opportunity_id"]]["state"] if deal["opportunity_id"] in now else "gone" for deal in group
        )
        won = [now[key] for key in (deal["opportunity_id"] for deal in group) if key in now and now[key]["is_won"]]
        assert (row["deals_then"], row["amount_base_then"]) == (len(group), total(group))
        assert (row["won"], row["lost"], row["still_open"]) == (states["Won"], states["Lost"], states["Open"])
        assert (row["gone"], row["won_amount_base"]) == (states["gone"], total(won))
    assert sum(row["gone"] for row in found) > 0


def test_pipeline_over_time_is_what_each_release_showed(answer: Answer, past: dict[datetime, dict[Any, Row]]) -> None:
    expected = []
    for moment, rows in past.items():
        deals = [row for row in rows.values() if row["state_code"] == 0]
        expected.append((moment, len(deals), total(deals)))
    assert [tuple(row.values()) for row in answer("pipeline_over_time")] == expected


def test_slipped_close_dates_are_those_that_successive_releases_show_later(
    answer: Answer, past: dict[datetime, dict[Any, Row]]
) -> None:
    expected = Counter()
    for key, row in past[max(past)].items():
        versions = [rows[key] for rows in past.values() if key in rows and rows[key]["state_code"] == 0]
        dates = [version["estimated_close_date"] for version in versions if version["estimated_close_date"]]
        moves = sum(later > earlier for earlier, later in pairwise(dates))
        if row["state_code"] == 0 and moves:
            day = row["estimated_close_date"]
            expected[row["name"], row["amount_base"], moves, dates[0], day, (day - dates[0]).days] += 1
    names = ("opportunity", "amount_base", "times_moved_later", "first_date", "date_now", "days_slipped")
    found = answer("slipped_close_dates")
    assert Counter(tuple(row[name] for name in names) for row in found) == expected


def test_how_fresh_is_this(answer: Answer, table: Table, past: dict[datetime, dict[Any, Row]]) -> None:
    rows = {row["table_name"]: row for row in answer("how_fresh_is_this")}
    assert rows.keys() == {"opportunity", "contact", "account", "connection", "connectionrole"}
    assert rows["opportunity"]["rows"] == len(table("opportunities"))
    assert rows["account"]["rows"] == len(table("accounts")) + len(table("merged_accounts"))
    assert {row["as_of"] + timedelta(minutes=row["minutes_until_release"]) for row in rows.values()} == {max(past)}


def test_missing_references_count_each_row_and_each_deal_once(answer: Answer, table: Table) -> None:
    deals_of: dict[tuple[str, Any], set[Any]] = defaultdict(set)
    for row in table("opportunities"):
        deals_of["opportunities", row["opportunity_id"]].add(row["opportunity_id"])
        deals_of[f"{row['customer_type']}s", row["customer_id"]].add(row["opportunity_id"])
    for row in table("opportunity_connections"):
        deals_of["connections", row["connection_id"]].add(row["opportunity_id"])
    found = {(row["relation"], row["reference"], row["target_table"]): row for row in answer("missing_references")}
    missing = grouped(table("unresolved_references"), "relation", "reference", "target_table")
    assert found.keys() == missing.keys()
    for kind, rows in missing.items():
        assert found[kind]["rows_with_it"] == len({row["key"] for row in rows})
        assert found[kind]["deals"] == len(set().union(*(deals_of[row["relation"], row["key"]] for row in rows)))
    assert found["opportunities", "customerid", "contact"]["consequence"].startswith("no account")


def test_warnings_of_this_release(answer: Answer, table: Table) -> None:
    failed = [row for row in table("expectation_results") if not row["success"]]
    found = answer("warnings_of_this_release")
    assert Counter((row["relation"], row["expectation"], row["unexpected_rows"]) for row in found) == Counter(
        (row["relation"], row["expectation"], row["unexpected_count"]) for row in failed
    )
    assert {row["severity"] for row in found} == {"warning"}
