"""The open live file: whole releases while they are swapped, closed in, and no reader left behind."""

from __future__ import annotations

import re
import shutil
import threading
from pathlib import Path

import duckdb
import pytest

from opportunity_sync.data_root import DataRoot
from opportunity_sync.pages.live import LiveFile
from opportunity_sync.publish import publish
from opportunity_sync.settings import Settings
from tests.lakes import identity
from tests.pages.conftest import Open
from tests.small_organisation import build, extract, let_pass, organisation, settings_for

pytestmark = pytest.mark.slow

READERS = 10
PUBLICATIONS = 8


def open_files(folder: Path) -> int:
    """Files below a folder that this process has open, removed ones too."""
    links = (path for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
    return sum(str(folder) in str(link.readlink()) for link in links)


@pytest.mark.parametrize(
    "query",
    [
        "from read_text('/etc/hostname')",
        "from read_csv('/etc/passwd')",
        "attach '/tmp/other.duckdb' as other",
        "copy opportunities to '/tmp/stolen.csv'",
        "create table live.main.mine as select 1",
        "delete from opportunities",
        "set enable_external_access = true",
        "set memory_limit = '100GB'",
        "install httpfs",
    ],
)
def test_a_page_can_reach_no_other_file_and_change_nothing(published_template: Settings, query: str) -> None:
    with LiveFile().reading(DataRoot(published_template.data)) as live:
        assert live is not None
        with pytest.raises(duckdb.Error, match=r"Permission Error|read-only|configuration has been locked"):
            live.rows(query)


def test_a_page_keeps_its_release_and_the_next_one_sees_the_next(published: Settings) -> None:
    root, file = DataRoot(published.data), LiveFile()
    with file.reading(root) as first:
        assert first is not None
        extract(published, {"account": [{"accountid": "a1", "name": "New", "versionnumber": 9}]}, mode="changes")
        release = publish(published, let_pass(published, build(published)).release_id)
        with file.reading(root) as second:
            assert second is not None
            assert second.release_id == second.value("select release_id from release") == release.release_id
            assert second.value("select name from accounts where account_id = ?", [identity("a1")]) == "New"
        assert first.value("select release_id from release") == first.release_id < release.release_id
        assert first.value("select name from accounts where account_id = ?", [identity("a1")]) == "Account 1"


def test_a_replaced_file_is_closed_when_its_last_page_is_done(published: Settings) -> None:
    root, file = DataRoot(published.data), LiveFile()
    with file.reading(root) as live:
        assert live is not None
    assert open_files(published.data) == 1
    copy = root.live_file.with_name("copy")
    shutil.copyfile(root.live_file, copy)
    copy.replace(root.live_file)
    with file.reading(root):
        assert open_files(published.data) == 1


def test_ten_readers_see_whole_releases_while_publications_go_on(tmp_path: Path, open_pages: Open) -> None:
    """Every release renames all opportunities after itself, so a page that mixes two can be told."""
    settings = settings_for(tmp_path / "data", releases_kept=2)
    candidates = []
    for number in range(PUBLICATIONS + 1):
        rows = organisation()
        for table, column in (("opportunity", "name"), ("account", "name"), ("contact", "fullname")):
            for row in rows[table]:
                row[column] = f"g{number:02} {row[column]}"
        extract(settings, {table: rows[table] for table in ("opportunity", "account", "contact")})
        candidates.append(let_pass(settings, build(settings, f"g{number:02}")).release_id)
    generations = {release_id: f"g{number:02}" for number, release_id in enumerate(candidates)}
    publish(settings, candidates[0])
    pages = open_pages(settings)
    done, problems, seen = threading.Event(), list[str](), set[str]()

    def read(number: int) -> None:
        count = 0
        while not done.is_set() or count < 3:
            address = ("opportunities?q=deal", f"opportunities/{identity('o11')}", "", "releases")[(number + count) % 4]
            answer = pages.get(address)
            count += 1
            shown = re.search(r'data-release="([^"]+)"', answer.text)
            if answer.status_code != 200 or shown is None:
                problems.append(f"{address}: {answer.status_code} {answer.text[:300]}")
                return
            names = set(re.findall(r"\bg\d\d\b", answer.text.partition('id="history"')[0]))
            if address.startswith("opportunities") and names != {generations[shown[1]]}:
                problems.append(f"{address}: {names} in {generations[shown[1]]}")
            if address == "" and f"release {shown[1]} is" not in answer.text:
                problems.append("the sentence is about another release")
            seen.add(shown[1])

    readers = [threading.Thread(target=read, args=(number,)) for number in range(READERS)]
    for reader in readers:
        reader.start()
    for release_id in candidates[1:]:
        publish(settings, release_id)
        done.wait(0.2)
    done.set()
    for reader in readers:
        reader.join()
    assert problems == []
    assert len(seen) > PUBLICATIONS // 2
    assert candidates[-1] in seen
