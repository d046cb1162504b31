"""Scenario files: the shipped ones, and what is said of sloppy ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_platform.errors import PlatformError
from mlops_platform.replay.scenario import read_scenario, shipped


def test_the_shipped_scenarios_are_read() -> None:
    assert shipped() == ["faults", "quiet"]
    assert not read_scenario("quiet").faults
    kinds = [fault.kind for fault in read_scenario("faults").faults]
    assert sorted(kinds) == ["bad_deployment", "class_shift", "label_flips", "new_topic", "null_column"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rows_per_week: 10\nfaults: [{kind: earthquake}]", "'earthquake'.*new_topic"),
        ("rows_per_weak: 10", "unknown field rows_per_weak; there are.*rows_per_week"),
        ("rows_per_week: 10\nfaults: [{kind: new_topic, wek: 3}]", r"unknown field faults\.1\.wek; there are.*week"),
        ("rows_per_week: ten", "rows_per_week is 'ten'"),
        ("rows_per_week: 0", "greater than or equal to 1"),
        ("order: shuffled", "set rows_per_week"),
        ("rows_per_week: 10\nweeks: 4\nfaults: [{kind: null_column, week: 9}]", "week 9, after the last of 4 weeks"),
        ("rows_per_week: 10\nfaults: [{kind: null_column, week: 9, until: 3}]", "until is week 3"),
        ("rows_per_week: 10\nfaults: [{kind: null_column, column: tag}]", "'title' or 'description'"),
        ("rows_per_week: 10\nthresholds: {patience: 3}", "unknown threshold patience; there are"),
        ("rows_per_week: 10\nfaults: [{kind: new_topic, texts: [a]}]", "texts belong to a new_topic"),
        ("", "holds no settings"),
        ("- a\n- b", "holds no settings"),
        ("a: [", "is not YAML"),
    ],
)
def test_a_sloppy_scenario_is_refused_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(PlatformError, match=said) as raised:
        read_scenario(str(file))
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith(".")


def test_a_scenario_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(PlatformError, match="faults or quiet"):
        read_scenario("loud")
