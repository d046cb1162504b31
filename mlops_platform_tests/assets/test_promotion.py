"""Promotion: when the alias moves, when it stays, and that the reason is kept."""

from __future__ import annotations

from mlops_platform.resources.registry import deployment_history
from mlops_platform.resources.registry.model_registry import CHAMPION, RegisteredVersion
from mlops_platform_tests.training_graph import LATTER, SMALL, WORSE, Run, TrainingHome


def _champion(home: TrainingHome) -> RegisteredVersion:
    found = home.tracking.by_alias(CHAMPION)
    assert found is not None
    return found


def _candidate(home: TrainingHome, params: dict[str, object], *names: str, min_f1: float = 0.3) -> Run:
    home.put("tuned_params", params=params)
    ran = home.run(*(names or LATTER), min_f1=min_f1)
    assert ran.success, ran.failure
    return ran


def test_the_first_model_over_the_bar_becomes_champion_and_its_reason_is_kept(trained_once: TrainingHome) -> None:
    champion, value = _champion(trained_once), trained_once.value("champion_model")
    assert (champion.version, value["version"], value["action"]) == ("1", "1", "promote")
    assert "Version 1 is the first champion" in value["reason"]
    assert champion.tags["promoted_because"] == value["reason"]
    assert champion.tags["promoted_by_dagster_run"] == champion.tags["dagster_run_id"]


def test_a_candidate_that_loses_significantly_leaves_the_champion(trained: TrainingHome) -> None:
    ran = _candidate(trained, WORSE)
    value = trained.value("champion_model")
    assert (value["action"], value["version"], value["candidate"]) == ("keep", "1", "2")
    assert "loses significantly" in value["reason"]
    assert _champion(trained).version == "1"
    assert "promoted_because" not in trained.tracking.version("2").tags
    assert ran.data_version("champion_model") == _champion(trained).fingerprint
    assert ran.metadata("champion_model")["champion_version"] == "1"
    assert ran.metadata("champion_model")["candidate_version"] == "2"


def test_a_candidate_without_significant_loss_is_promoted_with_its_reason(trained: TrainingHome) -> None:
    ran = _candidate(trained, SMALL)
    champion = _champion(trained)
    assert champion.version == trained.value("champion_model")["version"] == "2"
    assert "no significant loss" in champion.tags["promoted_because"]
    assert "against champion 1" in champion.tags["promoted_because"]
    assert champion.tags["promoted_by_dagster_run"] == ran.result.run_id
    assert ran.data_version("champion_model") == champion.fingerprint
    shown = ran.metadata("champion_model")
    assert shown["registered_model"].endswith("/versions/2")
    assert shown["mlflow_run"].endswith(champion.run_id)


def test_what_was_rolled_back_from_is_not_promoted_by_itself_again(trained: TrainingHome) -> None:
    _candidate(trained, SMALL)
    deployment_history.rollback(trained.tracking, by="ada", reason="It says other to everything.")
    assert trained.run(*LATTER).success
    value = trained.value("champion_model")
    assert (value["action"], value["version"], value["candidate"]) == ("keep", "1", "2")
    assert "rolled back on" in value["reason"]
    assert "It says other to everything" in value["reason"]
    assert _champion(trained).version == "1"
    deployment_history.promote(trained.tracking, "2", by="ada", reason="It was the data.")
    assert trained.run(*LATTER).success
    assert _champion(trained).version == "2"


def test_a_candidate_under_the_bar_is_refused_and_the_alias_stays(trained: TrainingHome) -> None:
    _candidate(trained, SMALL, min_f1=0.99)
    value = trained.value("champion_model")
    assert (value["action"], value["version"]) == ("refuse", "1")
    assert "under the bar of 0.990" in value["reason"]
    assert _champion(trained).version == "1"


def test_without_a_champion_a_candidate_under_the_bar_stays_none(trained: TrainingHome) -> None:
    trained.client().delete_registered_model_alias("project-tagger", CHAMPION)
    ran = trained.run("model_evaluation", "champion_model", min_f1=0.99)
    assert ran.success
    assert trained.value("champion_model")["version"] is None
    assert ran.data_version("champion_model") == "none"
    assert trained.tracking.by_alias(CHAMPION) is None


def test_twice_is_once(trained: TrainingHome) -> None:
    before = _champion(trained)
    assert trained.run(*LATTER).data_version("champion_model") == before.fingerprint
    assert trained.value("champion_model")["action"] == "keep"
    assert "is the champion already" in trained.value("champion_model")["reason"]
    assert _champion(trained) == before
    assert len(trained.client().search_model_versions("name = 'project-tagger'")) == 1


def test_a_comparison_with_a_former_champion_counts_for_nothing(trained: TrainingHome) -> None:
    _candidate(trained, WORSE, "trained_model", "model_evaluation")
    trained.put("tuned_params", params=SMALL)
    assert trained.run("trained_model").success
    trained.tracking.set_alias(CHAMPION, "3", {})
    failure = trained.run("champion_model").failure
    assert "Version 2 was not compared with champion 3: materialize model_evaluation again." in failure
    assert _champion(trained).version == "3"


def test_a_champion_that_cannot_be_loaded_makes_room(trained: TrainingHome) -> None:
    (trained.model_dir("1") / "model.skops").unlink()
    _candidate(trained, WORSE)
    assert _champion(trained).version == "2"
    assert "champion 1 cannot be loaded" in _champion(trained).tags["promoted_because"]


def test_a_champion_that_was_deleted_is_a_sentence_then_healed(trained: TrainingHome) -> None:
    trained.client().delete_model_version("project-tagger", "1")
    assert trained.tracking.by_alias(CHAMPION) is None
    assert "Version 1 of model project-tagger is not in the registry" in trained.run("champion_model").failure
    assert trained.run(*LATTER).success
    assert "is the first champion" in trained.value("champion_model")["reason"]
    assert _champion(trained).version == trained.value("trained_model")["version"] != "1"


def test_a_registry_that_was_deleted_is_a_sentence_then_healed(trained: TrainingHome) -> None:
    trained.client().delete_registered_model("project-tagger")
    assert "materialize trained_model" in trained.run("champion_model").failure
    assert trained.run(*LATTER).success
    assert _champion(trained).version == "1"
