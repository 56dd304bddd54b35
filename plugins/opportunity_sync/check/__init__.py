"""The check: is everything below the data root what it says it is? It changes nothing, also while runs go on."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from opportunity_sync.check.finding import Finding, Severity
from opportunity_sync.check.lake import check_lake
from opportunity_sync.check.published import check_published
from opportunity_sync.check.warehouse import check_warehouse
from opportunity_sync.data_root import FORMAT, DataRoot
from opportunity_sync.settings import Settings
from opportunity_sync.tables import load_tables

__all__ = ["Finding", "Severity", "check", "is_sound"]

log = logging.getLogger("opportunity_sync.check")


def check(settings: Settings) -> list[Finding]:
    """Check raw batches, warehouse and published folder.

    Returns:
        What was found, the worst first; empty or only notes when all is well.

    Raises:
        ConfigurationError: `tables.yaml` is wrong.
    """
    selections = load_tables(settings.tables_file)
    log.info("check: %s, every raw batch is read once", settings.data)
    root, findings = DataRoot(settings.data), _data_root(settings.data)
    if not findings:
        findings = [*check_lake(root, selections), *check_warehouse(root), *check_published(root)]
    return sorted(findings, key=lambda finding: ("error", "warning", "note").index(finding.severity))


def is_sound(findings: list[Finding]) -> bool:
    """Whether nothing was found but notes."""
    return all(finding.severity == "note" for finding in findings)


def _data_root(path: Path) -> list[Finding]:
    marker = path / "format.json"
    if not path.exists():
        return [Finding(severity="note", where=".", what="is not there: nothing has run yet", action="Nothing")]
    if not marker.exists():
        if not any(path.iterdir()):
            return [Finding(severity="note", where=".", what="is empty: nothing has run yet", action="Nothing")]
        what = "is missing, so that this may be no data root"
        action = "Check OPPORTUNITY_SYNC_DATA; if it is right, `opportunity-sync status` writes the file again"
        return [Finding(severity="error", where="format.json", what=what, action=action)]
    try:
        found = json.loads(marker.read_text(encoding="utf-8"))["format"]
    except (ValueError, KeyError, TypeError):
        what = "is unreadable"
        action = f'Restore it from a backup, or write {{"format": {FORMAT}, "version": "..."}} into it'
        return [Finding(severity="error", where="format.json", what=what, action=action)]
    if found > FORMAT:
        what = f"says format {found}; this version understands format {FORMAT} at most"
        return [Finding(severity="error", where="format.json", what=what, action="Upgrade opportunity-sync")]
    return []
