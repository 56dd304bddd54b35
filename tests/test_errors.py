"""Errors say three things, and survive the way from one process to another."""

from __future__ import annotations

import pickle

from opportunity_sync.dataverse.errors import ThrottledError
from opportunity_sync.errors import LakeError


def test_the_text_says_what_was_wrong_what_happened_to_the_data_and_what_to_do() -> None:
    error = LakeError("File x is damaged", state="Nothing was published", action="Restore it")
    assert str(error) == "File x is damaged. Nothing was published. Restore it."


def test_an_error_crosses_a_process_boundary_whole() -> None:
    error = ThrottledError("429", action="Wait", retry_after=7.0)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  (our own bytes)
    assert type(again) is ThrottledError
    assert (str(again), again.transient, again.retry_after) == (str(error), True, 7.0)
