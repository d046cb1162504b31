"""Whole histories on the shipped sample: quiet ones, and the five faults."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlops_platform.cli.main import app
from mlops_platform.replay.history import History, read_history
from mlops_platform.replay.scenario import Scenario, read_scenario
from mlops_platform.replay.scoring import Played, play_all, summarize
from mlops_platform.settings import SAMPLE_DIR


@pytest.fixture(scope="module")
def sample() -> History:
    return read_history(str(SAMPLE_DIR / "projects.csv"), str(SAMPLE_DIR / "tags.csv"))


def play(sample: History, kind: str, seed: int = 0) -> Played:
    plan = read_scenario("faults")
    only = plan.model_copy(update={"faults": [fault for fault in plan.faults if fault.kind == kind]})
    return play_all(sample.rows, only, [seed])[0]


@pytest.mark.long
@pytest.mark.parametrize("kind", ["new_topic", "label_flips", "class_shift", "null_column", "bad_deployment"])
def test_each_fault_is_decided_rightly_and_f1_comes_back(sample: History, kind: str) -> None:
    played = play(sample, kind)
    fault = played.faults[0]
    assert fault.right, fault
    assert fault.recovered, fault
    assert all(each.met for each in played.weeks)
    if kind in ("label_flips", "null_column", "bad_deployment"):
        assert fault.f1_after == fault.f1_before
    if kind in ("new_topic", "null_column", "bad_deployment"):
        assert fault.f1_before is not None
        assert fault.f1_during is not None
        assert fault.f1_during < fault.f1_before - 0.05


def test_a_loop_that_is_deaf_fails_the_scenario(sample: History) -> None:
    """With an alpha that no test can reach nothing is found, and that is said."""
    plan = read_scenario("faults")
    fault = next(each for each in plan.faults if each.kind == "null_column")
    deaf = plan.model_copy(update={"faults": [fault], "alpha": 1e-100, "weeks": 6})
    played = play_all(sample.rows, deaf, [0])
    assert not played[0].faults[0].right
    assert [each.week.week for each in played[0].weeks if not each.met] == [6]
    assert not summarize(played, deaf).met


def test_a_fault_that_may_be_ignored_is_met_by_continuing(sample: History) -> None:
    faults = [{"kind": "null_column", "week": 1, "share": 0.01, "within_weeks": 1, "expect": "continue"}]
    plan = Scenario.model_validate({"rows_per_week": 30, "weeks": 2, "pool_share": 0.1, "faults": faults})
    (played,) = play_all(sample.rows, plan, [0])
    assert played.faults[0].right
    assert [week.met for week in played.weeks] == [True, True]


def test_a_loop_that_cries_wolf_fails_the_quiet_scenario(sample: History) -> None:
    wolf = Scenario(rows_per_week=30, alpha=0.9, min_rows=20, weeks=3, pool_share=0.1)
    summary = summarize(play_all(sample.rows, wolf, [0]), wolf)
    assert summary.false_alarms
    assert not summary.met


def test_the_command_tells_the_same_twice(tmp_path: Path) -> None:
    plan = tmp_path / "short.yaml"
    plan.write_text("rows_per_week: 30\nweeks: 3\npool_share: 0.1\n")
    answers = []
    for name in ("a.json", "b.json"):
        result = CliRunner().invoke(
            app, ["replay", "--scenario", str(plan), "--json", "--output", str(tmp_path / name)]
        )
        assert result.exit_code == 0, result.output
        answers.append((tmp_path / name).read_text())
    assert answers[0] == answers[1]
    told = json.loads(answers[0])
    assert told["rows"] == 565
    assert [each["week"]["decision"] for each in told["played"][0]["weeks"]] == ["continue"] * 3


def test_the_table_fits_a_terminal(tmp_path: Path) -> None:
    plan = tmp_path / "short.yaml"
    plan.write_text("rows_per_week: 30\nweeks: 2\nfaults: [{kind: null_column, week: 1, within_weeks: 1}]\n")
    result = CliRunner().invoke(app, ["replay", "--scenario", str(plan)])
    assert result.exit_code in (0, 1), result.output
    assert "null_column" in result.output
    assert max(len(line) for line in result.output.splitlines()) <= 120
