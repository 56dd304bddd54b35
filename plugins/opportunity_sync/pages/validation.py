"""What the records of validation on disk add to the published file: keys of failing rows, and refused candidates."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import msgspec

from opportunity_sync.data_root import DataRoot
from opportunity_sync.expectations import Outcome
from opportunity_sync.pages.health import FailedCandidate
from opportunity_sync.published import failed_folder

log = logging.getLogger("opportunity_sync.pages")


class Report(msgspec.Struct, frozen=True):
    """`validation.json` of a release or of a refused candidate."""

    release_id: str
    results: tuple[Outcome, ...]

    @property
    def failures(self) -> list[Outcome]:
        """What failed, critical ones first."""
        return sorted((result for result in self.results if not result.success), key=lambda result: not result.stops)


@dataclass(frozen=True)
class Refused:
    """The newest candidate that validation refused."""

    candidate: FailedCandidate
    report: Report


def read_report(folder: Path) -> Report | None:
    """The report in a release's folder; None when it is not on disk any more, or unreadable, which is logged."""
    try:
        return msgspec.json.decode((folder / "validation.json").read_bytes(), type=Report)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        log.warning("pages: %s cannot be read (%s)", folder / "validation.json", error)
        return None


def newest_refused(root: DataRoot, live_id: str | None) -> Refused | None:
    """The newest refused candidate, if it is newer than the live release."""
    folders = sorted(failed_folder(root).glob("[0-9]*"), reverse=True)
    if not folders or (live_id is not None and folders[0].name < live_id):
        return None
    report = read_report(folders[0])
    if report is None:
        return None
    critical = sum(result.stops for result in report.results)
    return Refused(FailedCandidate(report.release_id, critical), report)
