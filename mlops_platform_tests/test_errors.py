"""Errors of the platform in a run."""

from __future__ import annotations

import dagster as dg
import pytest

from mlops_platform.errors import SourceError, platform_errors_as_failures


def test_a_platform_error_becomes_a_failure_with_its_sentence() -> None:
    with pytest.raises(dg.Failure) as caught, platform_errors_as_failures():
        raise SourceError("x.csv is empty; give another.")
    assert caught.value.description == "x.csv is empty; give another."
    assert not caught.value.allow_retries
    assert caught.value.__suppress_context__


def test_any_other_error_passes() -> None:
    with pytest.raises(KeyError), platform_errors_as_failures():
        raise KeyError("a bug")
