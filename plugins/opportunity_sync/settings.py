"""Settings of the sync: every path and every flag, read from `OPPORTUNITY_SYNC_*` environment variables.

Settings that decide what the published rows are live here rather than in Airflow Variables, so that the DAG and the
command line (`opportunity-sync rebuild`) always give the same release.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from opportunity_sync.errors import ConfigurationError

PROJECT = Path(__file__).resolve().parents[2]
"""Folder that holds `dags/`, `plugins/` and `include/`."""

Share = Annotated[float, Field(ge=0, le=1)]


class Settings(BaseSettings):
    """All settings; the environment variable of `page_size` is `OPPORTUNITY_SYNC_PAGE_SIZE`, and so on."""

    model_config = SettingsConfigDict(env_prefix="OPPORTUNITY_SYNC_", frozen=True, extra="forbid")

    data: Path = PROJECT / "data"
    """Data root: everything a run creates is below it."""
    include: Path = PROJECT / "include"
    """Folder with `tables.yaml` and `sql/`."""

    page_size: int = Field(default=5000, ge=1, le=5000)
    """Rows per Dataverse page (`Prefer: odata.maxpagesize`, service limit 5000)."""
    window_overlap_minutes: int = Field(default=60, ge=0)
    """Minutes that scheduled window reads overlap, for tables without change tracking."""
    request_timeout_seconds: float = Field(default=120, gt=0)
    """Longest silence of the service within one request, in seconds."""
    retry_budget_seconds: float = Field(default=900, ge=0)
    """Longest total wait for one request, over all its retries, in seconds."""

    customer_role: str = "Potential Customer"
    """Role text of the contact role that comes from `customerid` (rule 3.1)."""
    stakeholder_categories: tuple[int, ...] = (1000,)
    """Connection role categories that give a contact role (rule 3.6)."""
    role_when_missing: str | None = None
    """Role text for a connection without a role on the contact's side; unset: no row (rule 3.7)."""

    memory_limit: str = "2GB"
    """DuckDB memory limit of the transform; more spills to disk under the data root."""
    incremental_memory_limit: str = "512MB"
    """The same while only changed rows are derived: a larger one would only be filled with what is read once."""
    history_days: int | None = Field(default=None, ge=1)
    """Days after which earlier versions and changes are dropped from the history; unset: it is kept for good."""
    raw_days: int = Field(default=30, ge=0)
    """Days for which raw batches stay as they were read; compaction merges older ones, with 0 all but the newest."""
    releases_kept: int = Field(default=24, ge=1)
    """How many releases stay on disk for `opportunity-sync rollback`."""
    minimum_rows_share: Share = 0.5
    """A release with a smaller share of the last release's rows in any main table is not published."""
    freshness_hours: float = Field(default=6, gt=0)
    """A source table read longer ago than this is a warning in `expectation_results`."""
    drift_share: Share = 0.01
    """Share of a table's rows that a daily reconciliation may have to repair before somebody is told."""
    gone_share: Share = 0.2
    """A reconciliation that finds a larger share of a table's rows gone from Dynamics takes none of them out."""
    unresolved_share: Share = 0.05
    """Share of references without a target above which validation warns."""

    marketo_minutes: float = Field(default=40, gt=0)
    """Minutes for which one run sends to Marketo; what is left is sent by the next run."""

    @property
    def marketo_file(self) -> Path:
        """The file that chooses what is loaded into Marketo."""
        return self.include / "marketo.yaml"

    @property
    def tables_file(self) -> Path:
        """The file that chooses tables and columns."""
        return self.include / "tables.yaml"

    @property
    def sql(self) -> Path:
        """The folder of SQL models."""
        return self.include / "sql"


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        ConfigurationError: an `OPPORTUNITY_SYNC_*` variable does not fit its type or range.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        problems = "; ".join(
            f"OPPORTUNITY_SYNC_{'_'.join(str(part) for part in problem['loc'][:1]).upper()}: {problem['msg']}"
            for problem in error.errors()
        )
        raise ConfigurationError(
            f"Settings are wrong: {problems}",
            state="Nothing was read or written",
            action="Correct the environment",
        ) from None
    return settings.model_copy(update={"data": settings.data.resolve()})
