"""Sections that need something beside the platform, and what they measure with."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from benchmarks import __main__, beside_airflow, steps
from benchmarks.airflow import servers
from benchmarks.harness import Unavailable
from benchmarks.ticks import tick_seconds


def test_without_airflow_its_section_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "ENVIRONMENT", tmp_path)
    with pytest.raises(Unavailable, match=r"run `make bench-airflow` once\."):
        beside_airflow.run("quick")


def test_a_section_that_is_unavailable_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(servers, "ENVIRONMENT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick", "--only", "beside_airflow"])
    __main__.main()
    said = capsys.readouterr().out
    assert "beside_airflow is left as it was measured. Airflow is not installed" in said
    assert "## " not in said


def test_the_dags_have_all_steps() -> None:
    # read and not imported: Airflow is in another environment
    tree = ast.parse((servers.DAGS / "lesson.py").read_text(encoding="utf-8"))
    words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    words |= {f"{word}{table}" for word in words if word.endswith("_") for table in ("projects", "tags")}
    assert {step.__name__ for step in (*steps.DATAOPS, *steps.MLOPS)} <= words


def test_ticks_are_timed_with_and_without_a_change() -> None:
    seconds = tick_seconds(2, partitions=50)
    assert {way: len(each) for way, each in seconds.items()} == {"unchanged": 2, "changed": 2}
    assert min(min(each) for each in seconds.values()) > 0
