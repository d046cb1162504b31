"""The history of the champion: what a rollback returns to, and what is left when a move breaks off."""

from __future__ import annotations

from typing import Any

import pytest

from mlops_platform.errors import ModelError
from mlops_platform.resources.registry import deployment_history
from mlops_platform.resources.registry.deployment_history import Deployment, served_before, withdrawn
from mlops_platform.resources.registry.model_registry import CHAMPION, MlflowTracking
from mlops_platform_tests.training_graph import TrainingHome


def _moves(*told: str) -> list[Deployment]:
    """`promote 2` and `rollback 1` as records; what each moved from is what came before."""
    made: list[Deployment] = []
    for number, each in enumerate(told):
        action, version = each.split()
        previous = made[-1].version if made else None
        at = f"2026-01-{number + 1:02}T00:00:00"
        kind: Any = action
        made.append(Deployment(at, kind, version, previous, "me", "Why.", False, None, None, None))
    return made


@pytest.mark.parametrize(
    ("told", "champion", "before", "left"),
    [
        ((), "1", [], set()),
        (("promote 1",), "1", [], set()),
        (("promote 1", "promote 2", "promote 3"), "3", ["2", "1"], set()),
        (("promote 1", "promote 2", "promote 3", "rollback 2"), "2", ["1"], {"3"}),
        (("promote 1", "promote 2", "promote 3", "rollback 2", "rollback 1"), "1", [], {"2", "3"}),
        (("promote 1", "promote 2", "rollback 1", "promote 3"), "3", ["1"], {"2"}),
        (("promote 1", "promote 2", "rollback 1", "promote 2"), "2", ["1"], set()),
        (("promote 1", "promote 2", "promote 1"), "1", ["2"], set()),
        (("promote 1", "promote 2", "promote 3", "rollback 1"), "1", [], {"3"}),  # 2 could not be loaded
        (("promote 1", "promote 2"), "1", [], set()),  # killed before the alias moved
        (("promote 1", "promote 2"), "9", [], set()),  # moved by somebody who left no record
    ],
)
def test_what_was_served_before_and_what_was_left(
    told: tuple[str, ...], champion: str, before: list[str], left: set[str]
) -> None:
    assert served_before(_moves(*told), champion) == before
    assert set(withdrawn(_moves(*told))) == left


@pytest.fixture
def registry(trained: TrainingHome) -> MlflowTracking:
    """A registry with three versions of the same model; the first is the champion, by a recorded move."""
    import mlflow

    client = trained.client()
    first = client.get_model_version("project-tagger", "1")
    mlflow.set_tracking_uri(trained.settings.tracking_uri)
    for data in ("d2", "d3"):
        tags = {"dagster_run_id": f"r{data}", "data_version": data}
        client.create_model_version("project-tagger", first.source, run_id=first.run_id, tags=tags)
    return trained.tracking


def test_moves_are_recorded_with_who_what_and_why(registry: MlflowTracking) -> None:
    (first,) = deployment_history.history(registry)
    assert (first.version, first.previous, first.by) == ("1", None, "dagster")
    assert first.dagster_run_id == first.trained_by == registry.version("1").tags["dagster_run_id"]
    move = deployment_history.promote(registry, "2", by="ada", reason="It is better.", forced=True)
    assert (move.action, move.version, move.previous, move.by, move.forced) == ("promote", "2", "1", "ada", True)
    assert (move.trained_by, move.data_version, move.dagster_run_id) == ("rd2", "d2", None)
    assert deployment_history.history(registry) == [first, move]
    champion = registry.by_alias(CHAMPION)
    assert champion is not None
    assert (champion.version, champion.tags["promoted_because"]) == ("2", "It is better.")
    back = deployment_history.rollback(registry, by="bob", reason="It is worse.", dagster_run_id="r9")
    assert (back.action, back.version, back.previous, back.dagster_run_id) == ("rollback", "1", "2", "r9")
    assert deployment_history.history(registry) == [first, move, back]
    assert [each.version for each in registry.versions()] == ["1", "2", "3"]


def test_what_cannot_be_done_is_a_sentence_and_leaves_no_record(registry: MlflowTracking) -> None:
    before = deployment_history.history(registry)
    with pytest.raises(ModelError, match=r"^Version 1 of project-tagger is the champion already\.$"):
        deployment_history.promote(registry, "1", by="ada", reason="")
    with pytest.raises(ModelError, match=r"^Version 8 of model project-tagger is not in the registry"):
        deployment_history.promote(registry, "8", by="ada", reason="")
    with pytest.raises(ModelError, match=r"^Before version 1 of project-tagger there was no champion"):
        deployment_history.rollback(registry, by="ada", reason="")
    assert deployment_history.history(registry) == before


def test_a_rollback_passes_over_a_version_whose_files_are_gone(trained: TrainingHome, registry: MlflowTracking) -> None:
    client = trained.client()
    deployment_history.promote(registry, "2", by="ada", reason="")
    deployment_history.promote(registry, "3", by="ada", reason="")
    client.delete_model_version("project-tagger", "2")
    assert deployment_history.rollback(registry, by="ada", reason="").version == "1"


def test_a_record_without_its_move_is_gone_on_from(registry: MlflowTracking, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(MlflowTracking, "set_alias", _killed)
        with pytest.raises(KeyboardInterrupt):
            deployment_history.promote(registry, "2", by="ada", reason="")
    assert deployment_history.promote(registry, "3", by="ada", reason="").previous == "1"
    assert deployment_history.rollback(registry, by="ada", reason="").version == "1"


def _killed(*_: object) -> None:
    raise KeyboardInterrupt
