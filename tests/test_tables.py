from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opportunity_sync.errors import ConfigurationError
from opportunity_sync.tables import CORE, READ_ORDER, load_tables, unknown_column

SHIPPED = Path(__file__).parents[1] / "include" / "tables.yaml"


def write(folder: Path, text: str) -> Path:
    path = folder / "tables.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def edited(folder: Path, old: str, new: str) -> Path:
    text = SHIPPED.read_text(encoding="utf-8")
    assert old in text
    return write(folder, text.replace(old, new, 1))


def line_of(path: Path, text: str) -> int:
    return next(number for number, line in enumerate(path.read_text().splitlines(), start=1) if text in line)


def test_the_shipped_file_selects_the_core_columns_in_read_order() -> None:
    selections = load_tables(SHIPPED)
    assert tuple(selections) == READ_ORDER
    for table, selection in selections.items():
        assert set(selection.columns) == set(CORE[table])
        assert selection.key == selection.columns[0] == f"{table}id"
        assert selection.additional == ()


def test_an_additional_column_is_kept_with_its_line(tmp_path: Path) -> None:
    path = edited(tmp_path, "      - name\n", "      - name\n      - new_synctomkto\n")
    selection = load_tables(path)["opportunity"]
    assert selection.additional == ("new_synctomkto",)
    assert selection.lines["new_synctomkto"] == line_of(path, "- new_synctomkto")


def test_the_key_may_be_listed_anywhere_and_comes_first(tmp_path: Path) -> None:
    selection = load_tables(edited(tmp_path, "      - name\n", "      - name\n      - opportunityid\n"))["opportunity"]
    assert selection.columns[:2] == ("opportunityid", "name")
    assert selection.columns.count("opportunityid") == 1


@pytest.mark.parametrize(
    ("old", "new", "at", "words"),
    [
        ("tables:\n", "tabels:\n", "tabels", "unknown key 'tabels'; allowed: tables"),
        ("  opportunity:\n", "  lead:\n    columns: []\n  opportunity:\n", "lead:", "unknown table 'lead'"),
        (
            "  contact:\n    columns:\n",
            "  contact:\n    filter: x\n    columns:\n",
            "filter: x",
            "unknown key 'filter'; allowed: columns",
        ),
        ("      - salesstage\n", "      - SalesStage\n", "SalesStage", "'SalesStage' is not a Dataverse logical name"),
        ("      - customerid\n", "      - _customerid value\n", "_customerid value", "for a lookup write customerid"),
        (
            "      - ownerid\n",
            "      - ownerid\n      - name\n",
            None,
            "column name of table opportunity is listed twice",
        ),
        ("      - statuscode\n", "", "  opportunity:", "table opportunity lacks statuscode"),
        ("      - merged\n", "", "  contact:", "table contact lacks merged"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, at: str | None, words: str
) -> None:
    path = edited(tmp_path, old, new)
    with pytest.raises(ConfigurationError) as caught:
        load_tables(path)
    assert words in str(caught.value)
    line = line_of(path, at) if at else line_of(path, "- ownerid") + 1
    assert f"{path}, line {line}:" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a mapping"),
        ("tables:\n", "expected a mapping"),
        ("tables: [opportunity]\n", "expected a mapping"),
        ("tables:\n  opportunity:\n    columns: [name]\n", "table connection is missing"),
        ("tables: {\n", "is not YAML"),
        ("tables:\n  opportunity: 1\n  opportunity: 2\n", "is not YAML"),
        ("a: *b\n", "is not YAML"),
    ],
)
def test_a_file_of_another_shape_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError, match=words) as caught:
        load_tables(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("listed", ["name", "{name: 1}", "[[name]]", "[1]", "[null]", "null"])
def test_columns_that_are_not_a_list_of_names_are_refused(tmp_path: Path, listed: str) -> None:
    text = "tables:\n" + "".join(f"  {table}:\n    columns: {listed}\n" for table in READ_ORDER)
    with pytest.raises(ConfigurationError, match="line 2: columns of table opportunity is not a list"):
        load_tables(write(tmp_path, text))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml cannot be read"):
        load_tables(tmp_path / "nowhere.yaml")


def test_an_unknown_column_suggests_what_is_near() -> None:
    selection = load_tables(SHIPPED)["opportunity"]
    near = unknown_column(selection, "salesstag", ["salesstage", "name"])
    assert "no column salesstag; did you mean salesstage?" in str(near)
    assert "it has 2 columns" in str(unknown_column(selection, "zzz", ["salesstage", "name"]))


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=100), st.text(max_size=200).map(str.encode)))
def test_any_content_is_read_or_refused_with_our_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "tables.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError):
        load_tables(path)
