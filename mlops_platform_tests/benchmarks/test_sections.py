"""Sections that need something beside the platform, and what they measure with."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks import __main__, beside_airflow, harness, sentence, steps
from benchmarks.airflow import servers
from benchmarks.harness import Unavailable
from benchmarks.ticks import tick_seconds


@pytest.mark.parametrize(("section", "script"), [(beside_airflow, "airflow.sh"), (sentence, "sentence.sh")])
def test_where_packages_cannot_be_installed_a_section_says_why(
    section: ModuleType, script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "scripts" / script
    made.parent.mkdir()
    made.write_text("#!/bin/sh\necho 'It needs Python 3.11.' >&2\nexit 1\n", encoding="utf-8")
    made.chmod(0o755)
    monkeypatch.setattr(harness, "PROJECT_ROOT", tmp_path)
    monkeypatch.setattr(beside_airflow, "installed", lambda: tmp_path)
    with pytest.raises(Unavailable, match=rf"scripts/{script} failed: It needs Python 3\.11\."):
        section.run("quick")


def test_a_section_that_is_unavailable_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(beside_airflow, "installed", lambda: None)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--quick", "--only", "beside_airflow"])
    __main__.main()
    said = capsys.readouterr().out
    assert "beside_airflow keeps its earlier results. Airflow needs a Postgres server" in said
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
