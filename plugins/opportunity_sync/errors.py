"""Errors of the sync. Every message says three things: what was wrong, what happened to the data, what to do.

OpportunitySyncError
├── ConfigurationError          a setting, connection or file of the user's is wrong (dataverse/errors.py, tables.py)
├── DataRootError               the data root belongs to a newer version or to another organisation
├── DataverseError              the service said no, or said nothing usable (dataverse/errors.py)
├── MarketoError                the same, of Marketo (marketo/errors.py)
├── BatchRefusedError           what was read does not fit the table's types or lacks a key
├── LakeError                   a raw batch on disk is damaged
├── TooManyGoneError            a sweep found too many rows gone from Dynamics to believe it
├── DriftError                  a sweep had to repair more rows than is normal; they are repaired
├── ValidationFailedError       a critical expectation failed: the release is not published
├── TooManyDeletesError         a release would delete more from Marketo than may go without a person's word
├── ReleaseError                a release is missing or damaged
└── UnknownOpportunityError     `explain` was asked for an opportunity that the live release does not have
"""

from __future__ import annotations


class OpportunitySyncError(Exception):
    """Base of all errors of this package.

    Args:
        what: what was wrong: table, column, row key, file, limit. Never a secret, never personal data.
        state: what happened to the data.
        action: what the reader should do next.
    """

    transient: bool = False
    """True when the same call may succeed later without anyone changing anything."""

    retry_after: float | None = None
    """Seconds the service asked us to wait, when it said so."""

    def __init__(self, what: str, *, state: str, action: str) -> None:
        super().__init__(what, state, action)
        self.what, self.state, self.action = what, state, action

    def __str__(self) -> str:
        return " ".join(part.rstrip(".") + "." for part in (self.what, self.state, self.action))

    def __reduce__(self) -> tuple[object, ...]:
        return (_restore, (type(self), self.args, self.__dict__))


def _restore(
    cls: type[OpportunitySyncError], args: tuple[object, ...], state: dict[str, object]
) -> OpportunitySyncError:
    """Rebuild an error that crossed a process boundary (keyword-only constructors do not pickle)."""
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error


class ConfigurationError(OpportunitySyncError):
    """A setting, a connection field or a configuration file is wrong."""


class DataRootError(OpportunitySyncError):
    """The data root cannot be used by this version or with this organisation."""


class BatchRefusedError(OpportunitySyncError):
    """What the service sent does not fit the table: nothing of the batch is kept."""


class LakeError(OpportunitySyncError):
    """A raw batch on disk is damaged or incomplete."""


class TooManyGoneError(OpportunitySyncError):
    """More rows are gone from Dynamics than may be taken out of the outputs without a person's word."""


class DriftError(OpportunitySyncError):
    """More had drifted from Dynamics than is normal; it is repaired and published, but something loses changes."""


class ValidationFailedError(OpportunitySyncError):
    """At least one critical expectation failed; the release is not published."""


class TooManyDeletesError(OpportunitySyncError):
    """More would be deleted from Marketo than may go without a person's word."""


class ReleaseError(OpportunitySyncError):
    """A release is missing, damaged or cannot be switched to."""


class UnknownOpportunityError(OpportunitySyncError):
    """There is no such opportunity in the live release."""
