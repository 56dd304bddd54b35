"""When a failed task is tried again: the error itself decides."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import RetryDecision, RetryPolicy

from opportunity_sync.errors import OpportunitySyncError

if TYPE_CHECKING:
    from airflow.sdk import Context


class RetryTransientErrors(RetryPolicy):
    """Retry what may pass by itself, when the service says so; fail at once what a person has to change.

    An error that is not ours (a bug, a lost disk, a timeout) gets the task's usual retries.
    """

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Decide by `transient` and `retry_after` of the error (see `errors.py`)."""
        if not isinstance(exception, OpportunitySyncError):
            return RetryDecision.default()
        kind = type(exception).__name__
        if not exception.transient:
            return RetryDecision.fail(reason=f"{kind}: trying again cannot help, see the error's last sentence")
        if exception.retry_after is None:
            return RetryDecision.default()
        return RetryDecision.retry(
            delay=timedelta(seconds=exception.retry_after),
            reason=f"{kind}: the service asked to wait {exception.retry_after:.0f} s",
        )

    def serialize(self) -> dict[str, Any]:
        """Nothing to carry: the policy has no parameters."""
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> RetryTransientErrors:
        """The counterpart of `serialize`."""
        return cls()
