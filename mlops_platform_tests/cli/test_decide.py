"""`mlops decide`: what waits for an answer, and what an answer does."""

from __future__ import annotations

import pytest

from mlops_platform.cli.decide import answer_inspection, show
from mlops_platform.errors import PlatformError
from mlops_platform.resources.registry import deployment_history, inspections
from mlops_platform.resources.registry.model_registry import CHAMPION
from mlops_platform_tests.training_graph import TrainingHome


def _ask(home: TrainingHome) -> None:
    inspections.ask(home.tracking, day="2026-01-02", version="1", problems=("text",), reason="There is drift.")


def test_an_answer_ends_the_hold_once_and_is_shown(trained: TrainingHome, capsys: pytest.CaptureFixture[str]) -> None:
    show(trained.settings)
    assert capsys.readouterr().out == "No inspection is open.\n"
    _ask(trained)
    _ask(trained)  # the same day's question is one
    show(trained.settings)
    said = capsys.readouterr().out
    assert said.count("Inspection of 2026-01-02, version 1: There is drift.") == 1
    with pytest.raises(PlatformError, match="'maybe' is not an answer: choose one of continue, improve, rollback"):
        answer_inspection(trained.settings, "maybe", reason="")
    answer_inspection(trained.settings, "continue", reason="A holiday.")
    assert "no longer on hold" in capsys.readouterr().out
    show(trained.settings)
    said = capsys.readouterr().out
    assert "No inspection is open" in said
    assert "answered the inspection of 2026-01-02: continue. A holiday." in said
    with pytest.raises(PlatformError, match="No inspection is open, so there is nothing to answer"):
        answer_inspection(trained.settings, "continue", reason="")
    _ask(trained)  # answered: not asked again
    assert inspections.open_inspection(trained.tracking) is None


def test_a_rollback_that_cannot_be_done_leaves_the_question_open(trained: TrainingHome) -> None:
    _ask(trained)
    with pytest.raises(PlatformError, match="there was no champion that can be loaded"):
        answer_inspection(trained.settings, "rollback", reason="")
    assert inspections.open_inspection(trained.tracking) is not None
    client = trained.client()
    first = client.get_model_version("project-tagger", "1")
    client.create_model_version("project-tagger", first.source, run_id=first.run_id)
    deployment_history.promote(trained.tracking, "2", by="me", reason="By hand.")
    answer_inspection(trained.settings, "rollback", reason="It was worse.")
    champion = trained.tracking.by_alias(CHAMPION)
    assert champion is not None
    assert champion.version == "1"
    assert inspections.open_inspection(trained.tracking) is None
