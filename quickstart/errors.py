"""What can go wrong before the product itself is at work."""

from __future__ import annotations


class QuickStartError(Exception):
    """Shown as it is, without a traceback."""
