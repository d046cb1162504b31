"""The instance of the commands: its home, its lock, and the runs that a kill left in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from mlops_platform.cli.instance import RUN_TAG, close_killed_runs, exclusive, open_instance, prepare_home
from mlops_platform.errors import PlatformError
from mlops_platform.settings import PROJECT_ROOT, Settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a new home; DAGSTER_HOME is as it was before when the test is over."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    return Settings(home=tmp_path / "a home")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def _add(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, **tags: str) -> str:
    @dg.job
    def nothing() -> None:
        pass

    run = instance.create_run_for_job(nothing, status=status, tags={k.replace("__", "/"): v for k, v in tags.items()})
    return run.run_id


def _status(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRunStatus:
    run = instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


@pytest.mark.parametrize("status", ["STARTING", "STARTED", "CANCELING"])
def test_a_run_of_a_killed_command_is_failed(instance: dg.DagsterInstance, status: str) -> None:
    run_id = _add(instance, dg.DagsterRunStatus[status], mlops__command="run")
    assert close_killed_runs(instance) == 1
    assert _status(instance, run_id) is dg.DagsterRunStatus.FAILURE
    (failure,) = instance.all_logs(run_id, of_type=dg.DagsterEventType.RUN_FAILURE)
    assert "was killed" in failure.message
    assert close_killed_runs(instance) == 0


def test_runs_of_others_and_runs_that_ended_stay(instance: dg.DagsterInstance) -> None:
    assert RUN_TAG == "mlops/command"
    status = dg.DagsterRunStatus
    kept = {
        _add(instance, status.STARTED): status.STARTED,  # the UI's: another process executes it
        _add(instance, status.STARTED, mlops__command="other"): status.STARTED,
        _add(instance, status.SUCCESS, mlops__command="run"): status.SUCCESS,
        _add(instance, status.CANCELED, mlops__command="run"): status.CANCELED,
    }
    assert close_killed_runs(instance) == 0
    assert {run_id: _status(instance, run_id) for run_id in kept} == kept


def test_one_run_at_a_time_and_free_again_after_an_error(settings: Settings) -> None:
    with exclusive(settings):
        with pytest.raises(PlatformError, match="Another `mlops run` is in progress") as refused, exclusive(settings):
            raise AssertionError("two at once")
        assert str(settings.home) in str(refused.value)
        with exclusive(settings.model_copy(update={"home": settings.home / "another"})):
            pass
    with pytest.raises(KeyError), exclusive(settings):
        raise KeyError
    with exclusive(settings):
        pass


def test_the_home_gets_the_projects_instance(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_instance(settings) as instance:
        assert Path(instance.root_directory) == settings.dagster_home
        assert not instance.telemetry_enabled
    made = settings.dagster_home / "dagster.yaml"
    assert made.read_text() == (PROJECT_ROOT / "dagster.yaml").read_text()
    # an older version of the file is brought up to date by the next command
    made.write_text("{}")
    monkeypatch.setenv("DAGSTER_HOME", "")
    prepare_home(settings)
    assert made.read_text() == (PROJECT_ROOT / "dagster.yaml").read_text()


def test_a_dagster_home_of_the_users_own_is_left_alone(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs").mkdir()
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "theirs"))
    with open_instance(settings) as instance:
        assert Path(instance.root_directory) == tmp_path / "theirs"
    assert not (tmp_path / "theirs" / "dagster.yaml").exists()
    assert not settings.dagster_home.exists()


def test_a_home_that_cannot_be_made_is_a_sentence(settings: Settings) -> None:
    settings.home.write_text("a file is in the way")
    with pytest.raises(PlatformError, match=r"cannot be written .*: set MLOPS_HOME to a folder of yours"):
        prepare_home(settings)
