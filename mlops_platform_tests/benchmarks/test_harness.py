"""Costs of commands, goals, and the page that shows them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.harness import Curve, Goal, Row, Section, in_turns, measure

PAGE_OF = "import sys; held = bytearray(b'x') * (int(sys.argv[1]) << 20); print(len(held))"


def test_a_cost_holds_the_peak_of_the_command_alone() -> None:
    held = bytearray(b"x") * (300 << 20)  # this process is larger than both
    small, large = (measure([sys.executable, "-c", PAGE_OF, str(each)]) for each in (1, 100))
    assert len(held) > 0
    assert small.peak_mb < 100
    assert 95 < large.peak_mb - small.peak_mb < 110
    assert large.output.strip() == str(100 << 20)


def test_a_command_that_fails_is_told_with_what_it_printed() -> None:
    with pytest.raises(RuntimeError, match="failed with 3:\nno such luck"):
        measure([sys.executable, "-c", "print('no such luck'); raise SystemExit(3)"])
    with pytest.raises(RuntimeError, match="no-such-program"):
        measure(["no-such-program"])


def test_commands_run_in_turns_in_empty_folders() -> None:
    code = "import os, sys; assert not os.listdir(sys.argv[1]); open(sys.argv[1] + '/x', 'w'); print(sys.argv[2])"
    ran = in_turns(
        [lambda f: [sys.executable, "-c", code, str(f), "a"], lambda f: [sys.executable, "-c", code, str(f), "b"]], 2
    )
    assert [[cost.output.strip() for cost in each] for each in ran] == [["a", "a"], ["b", "b"]]


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal(2.0), True),
        (Goal(1.9), False),
        (Goal(4.0, "least", "ours"), True),
        (Goal(4.1, "least", "ours"), False),
        (None, None),
    ],
)
def test_a_goal_is_met_by_the_median(goal: Goal | None, met: bool | None) -> None:
    assert Row("x", "s", [4.0, 3.0, 9.0], [2.0, 1.0, 7.0], goal).met is met


def test_a_ratio_without_a_peer_is_refused() -> None:
    with pytest.raises(ValueError, match="has a ratio for a goal and no peer"):
        _ = Row("x", "s", [1.0], goal=Goal(1.0)).met


def test_sections_are_kept_one_by_one_and_make_one_page(tmp_path: Path) -> None:
    rows = [Row("a / b", "s", [2.0], [1.0], Goal(1.5)), Row("F1", "", [0.9061], goal=Goal(0.895, "least", "ours"))]
    curve = Curve("time", "s", {"ours": {10: 1.0, 100: 9.0}, "theirs": {10: 2.0, 100: 40.0}})
    folder, page = tmp_path / "results", tmp_path / "results.md"
    report.store("one", Section("One", "as it was", rows, [curve]), "full", {"duckdb": "2.0"}, folder)
    report.store("two", Section("Two", "likewise", rows[1:], notes="Mind this."), "full", {}, folder)
    text = report.write(["two", "absent", "one"], folder, page)
    assert page.read_text(encoding="utf-8") == text
    assert text.index("## Two") < text.index("## One")
    assert "| a / b | 2 s | 1 s | **2** (2 to 2) | ≤ 1.5 | **no** |" in text
    assert "| F1 | 0.9061 |  |  | ≥ 0.895 | yes |" in text
    assert "![time](results/one-1.svg)" in text
    first = (folder / "one-1.svg").read_bytes()
    report.write(["one"], folder, page)
    assert (folder / "one-1.svg").read_bytes() == first
