from __future__ import annotations

import json
import resource
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opportunity_sync import convert
from opportunity_sync.convert import Written, write_pages
from opportunity_sync.data_root import disk_errors
from opportunity_sync.dataverse.client import Page
from opportunity_sync.dataverse.metadata import DUCKDB_TYPES
from opportunity_sync.errors import BatchRefusedError, DataRootError
from opportunity_sync.lake import Column

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
KINDS = {
    "accountid": "Uniqueidentifier",
    "name": "String",
    "ownerid": "Owner",
    "employees": "Integer",
    "views": "BigInt",
    "merged": "Boolean",
    "revenue": "Money",
    "rate": "Decimal",
    "latitude": "Double",
    "createdon": "DateTime",
    "founded": "DateOnly",
    "versionnumber": "BigInt",
}
COLUMNS = tuple(
    Column(
        name=name,
        attribute_type=kind,
        duckdb_type="DATE" if kind == "DateOnly" else DUCKDB_TYPES[kind],
        property=f"_{name}_value" if kind == "Owner" else name,
        has_type=kind == "Owner",
    )
    for name, kind in KINDS.items()
)
OWNER_TYPE = "_ownerid_value@Microsoft.Dynamics.CRM.lookuplogicalname"
KEY = "00000000-0000-4000-8000-00000000000{}"


def page(number: int, rows: Sequence[Any] | bytes, delta_link: str | None = None) -> Page:
    at = START + timedelta(seconds=number)
    content = rows if isinstance(rows, bytes) else json.dumps(rows, default=str).encode()
    return Page(number, at, at + timedelta(milliseconds=500), msgspec.Raw(content), None, delta_link)


def account(number: int, **values: Any) -> dict[str, Any]:
    return {"@odata.etag": 'W/"1"', "accountid": KEY.format(number), "versionnumber": number} | values


def deleted(number: int) -> dict[str, str]:
    context = "https://contoso.crm.dynamics.com/api/data/v9.2/$metadata#accounts/$deletedEntity"
    return {"@odata.context": context, "id": KEY.format(number), "reason": "deleted"}


def written(folder: Path, *pages: Page) -> Written:
    folder.mkdir(exist_ok=True)
    return write_pages(pages, table="account", key="accountid", columns=COLUMNS, folder=folder)


def read(folder: Path, pattern: str = "rows-*.parquet", order: str = "versionnumber, _page") -> list[dict[str, Any]]:
    with duckdb.connect() as connection:
        result = connection.execute(f"select * from read_parquet('{folder}/{pattern}') order by {order}")
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def test_columns_stand_in_selected_order_with_types_and_where_they_came_from(tmp_path: Path) -> None:
    result = written(tmp_path, page(1, [account(1)]), page(2, [account(2)], "/next"))
    (file,) = result.files
    with duckdb.connect() as connection:
        described = connection.execute(f"describe select * from '{tmp_path / file.name}'").fetchall()
    types = {row[0]: row[1] for row in described}
    expected = {column.name: column.duckdb_type for column in COLUMNS}
    assert types == expected | {"ownerid_type": "VARCHAR", "_extracted_at": "TIMESTAMP", "_page": "INTEGER"}
    assert list(types)[2:4] == ["ownerid", "ownerid_type"]
    assert [(row["_page"], row["_extracted_at"]) for row in read(tmp_path)] == [
        (number, (START + timedelta(seconds=number)).replace(tzinfo=None)) for number in (1, 2)
    ]
    assert (result.pages, result.rows, result.deletes, result.delta_link) == (2, 2, 0, "/next")
    assert result.finished_at == START + timedelta(seconds=2.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name], "nothing else is left"


def test_absent_and_null_values_are_null(tmp_path: Path) -> None:
    written(tmp_path, page(1, [account(1), account(2, **{column.property: None for column in COLUMNS[1:-1]})]))
    for row in read(tmp_path):
        filled = {name for name, value in row.items() if value is not None}
        assert filled == {"accountid", "versionnumber", "_extracted_at", "_page"}


text_values = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30)
typed_rows = st.fixed_dictionaries(
    {},
    optional={
        "name": text_values,
        "_ownerid_value": st.uuids(),
        OWNER_TYPE: st.sampled_from(["systemuser", "team"]),
        "employees": st.integers(-(2**31), 2**31 - 1),
        "views": st.integers(-(2**63), 2**63 - 1),
        "merged": st.booleans(),
        "revenue": st.decimals(-99999999999, 99999999999, places=4),
        "rate": st.decimals(-99999, 99999, places=10),
        "latitude": st.floats(allow_nan=False, allow_infinity=False),
        "createdon": st.datetimes(datetime.fromisoformat("1753-01-01"), datetime.fromisoformat("9999-12-31")),
        "founded": st.dates(date(1753, 1, 1), date(9999, 12, 31)),
    },
)


def as_json(value: Any) -> str:
    match value:
        case Decimal():
            return f"{value:f}"
        case datetime():
            return f'"{value.isoformat()}Z"'
        case _:
            return json.dumps(value, default=str, ensure_ascii=False)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(rows=st.lists(typed_rows, min_size=1, max_size=5))
def test_any_value_arrives_as_it_was_sent(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]) -> None:
    folder = tmp_path_factory.mktemp("batch")
    sent = [account(number, **row) for number, row in enumerate(rows, start=1)]
    body = ",".join("{" + ",".join(f"{json.dumps(k)}:{as_json(v)}" for k, v in row.items()) + "}" for row in sent)
    written(folder, page(1, f"[{body}]".encode()))
    for row, found in zip(rows, read(folder), strict=True):
        for column in COLUMNS[1:-1]:
            assert found[column.name] == row.get(column.property), column.name
        assert found["ownerid_type"] == row.get(OWNER_TYPE)


def test_quoted_numbers_are_exact_beyond_what_json_numbers_can_hold(tmp_path: Path) -> None:
    values = {"revenue": "922337203685477.5807", "rate": "100000000000.0123456789", "views": "9007199254740993"}
    written(tmp_path, page(1, [account(1, **values)]))
    (row,) = read(tmp_path)
    assert (row["revenue"], row["rate"], row["views"]) == (
        Decimal("922337203685477.5807"),
        Decimal("100000000000.0123456789"),
        9007199254740993,
    )


def test_a_text_that_holds_json_stays_a_text(tmp_path: Path) -> None:
    text = '{"a": {"b": [1]}}'
    written(tmp_path, page(1, [account(1, name=text)]))
    assert [row["name"] for row in read(tmp_path)] == [text]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("accountid", None),
        ("accountid", "not an id"),
        ("versionnumber", None),
        ("versionnumber", 1.5),
        ("name", {"unexpected": ["object"]}),
        ("name", ["unexpected"]),
        ("ownerid", 17),
        ("employees", 3.7),
        ("employees", 3.0),
        ("employees", True),
        ("employees", "many"),
        ("employees", 2**31),
        ("views", 2**63),
        ("views", "x"),
        ("merged", "yes"),
        ("merged", 1),
        ("revenue", "a lot"),
        ("revenue", 10**16),
        ("rate", True),
        ("latitude", "north"),
        ("createdon", "2026-06-01"),
        ("createdon", "2026-06-01T10:00:00"),
        ("createdon", "2026-06-01T10:00:00+02:00"),
        ("createdon", "2026-13-01T10:00:00Z"),
        ("founded", "2026-06-01T10:00:00Z"),
        ("founded", "2026-02-30"),
        ("founded", 20260601),
    ],
)
def test_a_value_that_does_not_fit_refuses_the_batch_with_table_column_page_and_row_key(
    tmp_path: Path, column: str, value: object
) -> None:
    wanted = next(each for each in COLUMNS if each.name == column)
    bad = account(5, name="Jane Doe") | {wanted.property: value}
    with pytest.raises(BatchRefusedError) as caught:
        written(tmp_path, page(1, [account(1), account(2)]), page(2, [account(3), account(4), bad, account(6)]))
    message = str(caught.value)
    assert "Table account, page 2, " in message
    assert f"column {column} ({wanted.attribute_type})" in message
    assert ("row number 3:" if column == "accountid" else f"row {KEY.format(5)}:") in message
    assert ("is missing" if value is None else f"does not fit type {wanted.duckdb_type}") in message
    assert "Jane" not in message
    assert value is None or str(value) not in message.replace(KEY.format(5), "")


def test_an_absent_key_refuses_the_batch(tmp_path: Path) -> None:
    with pytest.raises(BatchRefusedError, match=r"page 1, row number 2: column accountid .* is missing"):
        written(tmp_path, page(1, [account(1), {"name": "x", "versionnumber": 2}]))


@pytest.mark.parametrize("rows", [[1, 2], ["x"], [None], [[]], [{}]])
def test_rows_that_are_no_rows_refuse_the_batch(tmp_path: Path, rows: list[Any]) -> None:
    with pytest.raises(BatchRefusedError, match="page 1"):
        written(tmp_path, page(1, rows))


def test_a_row_with_two_broken_pages_names_the_first(tmp_path: Path) -> None:
    with pytest.raises(BatchRefusedError, match="page 2"):
        written(tmp_path, page(1, [account(1)]), *(page(n, [account(n, employees="x")]) for n in (2, 3)))


def test_deletes_stand_apart_from_rows(tmp_path: Path) -> None:
    result = written(tmp_path, page(1, [account(1), account(2)]), page(2, [account(3), deleted(8), deleted(9)]))
    assert (result.rows, result.deletes) == (3, 2)
    assert [file.name for file in result.files] == ["rows-0001.parquet", "deletes.parquet"]
    assert len(read(tmp_path)) == 3
    observed = (START + timedelta(seconds=2.5)).replace(tzinfo=None)
    assert read(tmp_path, "deletes.parquet", "id") == [
        {"id": UUID(KEY.format(8)), "_observed_at": observed},
        {"id": UUID(KEY.format(9)), "_observed_at": observed},
    ]


def test_deletes_alone_make_no_rows_file(tmp_path: Path) -> None:
    result = written(tmp_path, page(1, [deleted(1)]))
    assert [file.name for file in result.files] == ["deletes.parquet"]
    assert [path.name for path in tmp_path.iterdir()] == ["deletes.parquet"]


def test_a_text_that_mentions_deleted_entities_deletes_nothing(tmp_path: Path) -> None:
    result = written(tmp_path, page(1, [account(1, name='ends in /$deletedEntity"')]))
    assert (result.rows, result.deletes) == (1, 0)


@pytest.mark.parametrize("row", [{"id": "not an id"}, {"id": None}])
def test_a_delete_without_a_proper_id_refuses_the_batch(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(BatchRefusedError, match="page 2: its rows cannot be read"):
        written(tmp_path, page(1, [account(1)]), page(2, [deleted(1) | row]))


def test_an_empty_page_makes_no_file(tmp_path: Path) -> None:
    result = written(tmp_path, page(1, [], "/next"))
    assert (result.pages, result.rows, result.files, result.delta_link) == (1, 0, (), "/next")
    assert list(tmp_path.iterdir()) == []


def test_many_pages_become_few_files_and_no_row_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "GROUP_BYTES", 4000)
    pages = [
        page(number, [account(0, accountid=f"00000000-0000-4000-8000-{number:06d}{row:06d}") for row in range(10)])
        for number in range(1, 31)
    ]
    result = written(tmp_path, *pages)
    assert 3 < len(result.files) < 30
    assert [file.rows for file in result.files] == [
        duckdb.connect().execute(f"select count(*) from '{tmp_path / file.name}'").fetchone()[0]  # type: ignore[index]
        for file in result.files
    ]
    assert len({(row["accountid"], row["_page"]) for row in read(tmp_path)}) == result.rows == 300


def test_a_refusal_in_an_earlier_group_ends_the_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "GROUP_BYTES", 1)
    taken = []

    def pages() -> Iterator[Page]:
        for number in range(1, 100):
            taken.append(number)
            yield page(number, [account(1, employees="x" if number == 3 else 1)])

    with pytest.raises(BatchRefusedError, match="page 3"):
        write_pages(pages(), table="account", key="accountid", columns=COLUMNS, folder=tmp_path)
    assert len(taken) < 8


def test_an_error_of_the_download_is_passed_on(tmp_path: Path) -> None:
    def pages() -> Iterator[Page]:
        yield page(1, [account(1)])
        raise ConnectionResetError("reset")

    with pytest.raises(ConnectionResetError):
        write_pages(pages(), table="account", key="accountid", columns=COLUMNS, folder=tmp_path)


@pytest.mark.parametrize("name", ["it's", "a*b", "[x]", "what?", "ünï cödé"])
def test_any_folder_name_will_do(tmp_path: Path, name: str) -> None:
    matching = tmp_path / name.replace("*", "z").replace("?", "z").replace("[x]", "x")
    matching.mkdir()
    (matching / "page-000001.json").write_text(json.dumps([account(7), account(8)]))
    assert written(tmp_path / name, page(1, [account(1)]), page(2, [deleted(2)])).rows == 1


def test_awkward_property_names_are_quoted(tmp_path: Path) -> None:
    names = ["filename", "pages", "select", 'a"b', "it's"]
    columns = (COLUMNS[0], *(Column(name=n, attribute_type="String", duckdb_type="VARCHAR", property=n) for n in names))
    rows = [{"accountid": KEY.format(1)} | {column.name: column.name for column in columns[1:]}]
    write_pages([page(1, rows)], table="account", key="accountid", columns=columns, folder=tmp_path)
    (row,) = read(tmp_path, order="1")
    assert all(row[column.name] == column.name for column in columns[1:])


def test_a_full_disk_under_duckdb_is_named(tmp_path: Path) -> None:
    full = "copy (select range from range(1000000)) to '/dev/full' (format csv, use_tmp_file false)"
    with (
        duckdb.connect() as connection,
        pytest.raises(DataRootError, match="No space left on device") as caught,
        disk_errors(tmp_path),
    ):
        connection.execute(full)
    assert str(tmp_path) in str(caught.value)
    assert not caught.value.transient


def test_a_full_disk_under_python_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(DataRootError, match="No space left on device"),
        disk_errors(tmp_path),
        Path("/dev/full").open("wb") as file,
    ):
        file.write(b"x" * 100_000)


def test_other_disk_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), disk_errors(tmp_path):
        (tmp_path / "nowhere").open()
    with duckdb.connect() as connection, pytest.raises(duckdb.IOException), disk_errors(tmp_path):
        connection.execute(f"copy (select 1) to '{tmp_path}/nowhere/x.csv'")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    rest = f'"versionnumber":1,"name":"{"x" * 1200}"'

    def pages(count: int) -> Iterator[Page]:
        for number in range(1, count + 1):
            ids = range(number * 5000, (number + 1) * 5000)
            rows = ",".join(f'{{"accountid":"00000000-0000-4000-8000-{i:012d}",{rest}}}' for i in ids)
            yield page(number, f"[{rows}]".encode())

    def peak_megabytes(count: int) -> float:
        result = write_pages(pages(count), table="account", key="accountid", columns=COLUMNS, folder=tmp_path)
        assert result.rows == count * 5000
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    small = peak_megabytes(40)
    large = peak_megabytes(180)
    assert large - small < 100, f"{small:.0f} MB for 200,000 rows, {large:.0f} MB for 900,000 rows"
