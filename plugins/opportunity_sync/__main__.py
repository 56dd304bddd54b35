"""`python -m opportunity_sync` is the command line, where its script is not installed."""

from __future__ import annotations

from opportunity_sync.cli import app

app(prog_name="opportunity-sync")
