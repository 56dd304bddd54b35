"""The raw batches: is all there that the manifests say, does the chain of delta links hold, what is left over."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from opportunity_sync.check.finding import Finding, Severity, is_held
from opportunity_sync.data_root import DataRoot
from opportunity_sync.errors import LakeError
from opportunity_sync.lake import Lake, Manifest, chained, sha256
from opportunity_sync.tables import READ_ORDER, Selection

RESTORE = "Restore it from a backup, or delete the batch folder: the table is then read in full"
TIDY = "The next read of this table removes it"


def check_lake(root: DataRoot, selections: Mapping[str, Selection]) -> list[Finding]:
    """Check all raw batches; every data file is read once."""
    findings: list[Finding] = []
    organisations = set()
    for table in READ_ORDER:
        batches, damaged = _manifests(root, table)
        findings += damaged
        organisations |= {batch.organization_id for batch in batches}
        findings += [finding for batch in batches for finding in _batch(root, batch)]
        findings += _chain(batches, selections[table])
        findings += _leftovers(root, table, batches)
    unknown = sorted(path.name for path in root.raw.glob("*") if path.name not in READ_ORDER)
    findings += [_finding("warning", f"raw/{name}", "is no table of this version", "Move it away") for name in unknown]
    if len(organisations) > 1:
        listed = ", ".join(sorted(organisations))
        action = "Move the folders of the wrong one away: each manifest.json names its organisation"
        findings.append(_finding("error", "raw", f"holds batches of several organisations: {listed}", action))
    return findings


def _manifests(root: DataRoot, table: str) -> tuple[list[Manifest], list[Finding]]:
    """The readable manifests of the batches that count, and what is wrong with the others."""
    lake, found, damaged = Lake(root.raw), [], []
    for path in sorted((root.raw / table).glob("[!.]*/manifest.json")):
        name = path.parent.name
        try:
            found.append(lake.manifest(table, name))
        except LakeError as error:
            if path.exists():  # else a compaction has replaced the batch meanwhile
                damaged.append(_finding("error", f"raw/{table}/{name}", error.what, error.action))
    replaced = {name for manifest in found for name in manifest.replaces}
    return [manifest for manifest in found if manifest.batch not in replaced], damaged


def _batch(root: DataRoot, manifest: Manifest) -> list[Finding]:
    folder = root.raw / manifest.table / manifest.batch
    findings = list(_files(folder, manifest))
    return findings if folder.exists() else []  # a compaction has replaced it meanwhile


def _files(folder: Path, manifest: Manifest) -> Iterator[Finding]:
    where = f"raw/{manifest.table}/{manifest.batch}"
    for file in manifest.files:
        path = folder / file.name
        if not path.is_file():
            yield _finding("error", f"{where}/{file.name}", "is missing", RESTORE)
        elif path.stat().st_size != file.bytes:
            what = f"has {path.stat().st_size} bytes, the manifest says {file.bytes}"
            yield _finding("error", f"{where}/{file.name}", what, RESTORE)
        elif sha256(path) != file.sha256:
            yield _finding("error", f"{where}/{file.name}", "has another checksum than the manifest says", RESTORE)
        elif (rows := _parquet_rows(path)) != file.rows:
            what = f"has {'no readable' if rows is None else rows} rows, the manifest says {file.rows}"
            yield _finding("error", f"{where}/{file.name}", what, RESTORE)
    for prefix, count in (("rows", manifest.rows), ("deletes", manifest.deletes)):
        counted = sum(file.rows for file in manifest.files if file.name.startswith(prefix))
        if counted != count:
            yield _finding("error", where, f"lists files with {counted} {prefix}, but says {count}", RESTORE)
    listed = {file.name for file in manifest.files} | {"manifest.json"}
    for name in sorted({path.name for path in folder.glob("*")} - listed):
        yield _finding("warning", f"{where}/{name}", "is not in the manifest", "Delete it: nobody reads it")


def _parquet_rows(path: Path) -> int | None:
    import duckdb

    try:
        with duckdb.connect() as connection:
            ((rows,),) = connection.execute("select num_rows from parquet_file_metadata(?)", [str(path)]).fetchall()
    except duckdb.Error:
        return None
    return int(rows)


def _chain(batches: list[Manifest], selection: Selection) -> Iterator[Finding]:
    """What the next scheduled read of the table makes of the delta links."""
    if not batches:
        return
    table = selection.table
    usable = chained(batches)
    windowed = [batch for batch in batches if batch.read_until]
    newest = max([*usable[-1:], *windowed[-1:]], key=lambda batch: batch.batch, default=None)
    if newest is None:
        what = "has no delta link that can be continued: the next scheduled run reads it in full"
        yield _finding("note", f"raw/{table}", what, "Nothing")
    for batch in batches:
        if batch.delta_link and (newest is None or batch.batch > newest.batch):
            what = "has a delta link that nobody can use, because a batch it builds on is not there"
            action = "Nothing: the next scheduled run reads again what came after the last usable one"
            yield _finding("note", f"raw/{table}/{batch.batch}", what, action)
    if newest is None:
        return
    read = {column.name for column in newest.continued_columns or newest.columns}
    if read != set(selection.columns) - set(newest.missing_columns):
        what = "was read with other columns than tables.yaml selects: the next scheduled run reads it in full"
        yield _finding("note", f"raw/{table}", what, "Nothing")


def _leftovers(root: DataRoot, table: str, batches: list[Manifest]) -> Iterator[Finding]:
    """What runs that died left behind; what a living one is working on is none of it."""
    folder = root.raw / table
    names = {batch.batch for batch in batches}
    replaced = {name for batch in batches for name in batch.replaces}
    for path in sorted(folder.glob("*")):
        where = f"raw/{table}/{path.name}"
        if path.name.startswith("."):
            lock_file = path if path.name.endswith(".lock") else path.with_name(f"{path.name}.lock")
            is_left = not is_held(lock_file) and path.exists()
            what = "is a lock file of a run that died" if path == lock_file else "was not finished by a run that died"
        elif path.name in replaced:
            is_left = not is_held(root.warehouse.with_suffix(".lock")) and path.exists()
            what = "was replaced by a compacted batch, but is still there"
        else:
            is_left = path.name not in names and not (path / "manifest.json").exists() and path.exists()
            what = "has no manifest: it is no batch"
        if is_left:
            action = "Delete it: nobody reads it" if what.startswith("has no manifest") else TIDY
            yield _finding("warning", where, what, action)


def _finding(severity: Severity, where: str, what: str, action: str) -> Finding:
    return Finding(severity=severity, where=where, what=what, action=action)
