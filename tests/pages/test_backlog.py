"""What the overview says of Marketo, from the ledger alone and without ever disturbing a load."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from opportunity_sync.data_root import DataRoot
from opportunity_sync.marketo_load.ledger import Ledger, open_ledger
from opportunity_sync.pages.backlog import backlogs
from opportunity_sync.pages.live import LiveFile
from opportunity_sync.settings import Settings
from tests.pages.conftest import Open

pytestmark = pytest.mark.slow

ADDRESS = "https://123-abc-456.mktorest.com"


def load(settings: Settings, release: str | None) -> None:
    """Leave a ledger as a load does: some records confirmed, one in doubt, one refused, two contacts without a lead."""
    with open_ledger(settings, ADDRESS) as ledger:
        note(ledger, release)


def note(ledger: Ledger, release: str | None) -> None:
    ledger.connection.execute(
        """
        insert into ledger.records (object, key, state) values
        ('opportunities', '1', 'confirmed'), ('opportunities', '2', 'confirmed'), ('opportunities', '3', 'sent'),
        ('opportunities/roles', '4', 'rejected');
        insert into ledger.leads (contact_id, lead_id) values (uuid(), null), (uuid(), null), (uuid(), 7);
        """
    )
    if release is not None:
        ledger.note_loaded(release)


def release_ids(settings: Settings) -> list[str]:
    with LiveFile().reading(DataRoot(settings.data)) as live:
        assert live is not None
        return [row["release_id"] for row in live.rows("select release_id from releases order by release_id")]


def shown(settings: Settings, open_pages: Open) -> str:
    page = open_pages(settings).get("")
    assert page.status_code == 200
    return " ".join(re.sub(r"<[^>]*>", " ", page.text).split())


def test_without_a_ledger_marketo_is_not_mentioned(published: Settings, open_pages: Open) -> None:
    assert "Marketo" not in shown(published, open_pages)


def test_everything_sent_is_said_with_what_marketo_confirmed(published: Settings, open_pages: Open) -> None:
    load(published, release_ids(published)[-1])
    text = shown(published, open_pages)
    assert "Marketo: 123-abc-456.mktorest.com Everything of the live release that can be sent has been sent" in text
    assert "opportunities 2 1 0" in text
    assert "opportunities/roles 0 0 1" in text
    assert "2 contacts have no lead" in text


def test_changes_since_the_loaded_release_are_counted_once_per_row(published: Settings, open_pages: Open) -> None:
    """o9 changed in both releases since, o5 was deleted in one of them."""
    first = release_ids(published)[0]
    load(published, first)
    assert f"Waiting since release {first} : 2 changed rows of opportunities" in shown(published, open_pages)


def test_a_load_that_never_reached_its_end_is_said(published: Settings, open_pages: Open) -> None:
    load(published, None)
    assert "No release was loaded to the end yet" in shown(published, open_pages)


def test_while_a_load_holds_the_ledger_the_page_says_so_at_once(published: Settings, open_pages: Open) -> None:
    with open_ledger(published, ADDRESS) as ledger:
        assert "Nothing can be said now: a run is loading into Marketo right now" in shown(published, open_pages)
        note(ledger, release_ids(published)[-1])
    assert "Everything of the live release" in shown(published, open_pages)


def test_a_load_that_begins_while_pages_look_is_never_refused(published: Settings) -> None:
    load(published, release_ids(published)[-1])
    stop, looks = threading.Event(), list[bool]()

    def look() -> None:
        file = LiveFile()
        while not stop.is_set():
            with file.reading(DataRoot(published.data)) as live:
                assert live is not None
                looks.append(backlogs(live)[0].problem is None)

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for _ in range(5):
            with open_ledger(published, ADDRESS) as ledger:
                ledger.note_loaded("x")
            stop.wait(0.2)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert any(looks)


def test_a_look_needs_no_right_to_write(published: Settings, open_pages: Open) -> None:
    load(published, release_ids(published)[-1])
    folder = DataRoot(published.data).marketo / "123-abc-456.mktorest.com"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    for path in folder.iterdir():
        path.chmod(0o444)
    assert "Everything of the live release" in shown(published, open_pages)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("damage", ["rubbish", "no lock"])
def test_a_ledger_that_cannot_be_read_does_not_take_the_page_with_it(
    published: Settings, open_pages: Open, damage: str
) -> None:
    load(published, None)
    folder = DataRoot(published.data).marketo / "123-abc-456.mktorest.com"
    Path(folder / "ledger.duckdb").write_bytes(b"rubbish" * 1000) if damage == "rubbish" else (
        folder / "ledger.lock"
    ).unlink()
    assert "Nothing can be said now: the ledger cannot be read" in shown(published, open_pages)
