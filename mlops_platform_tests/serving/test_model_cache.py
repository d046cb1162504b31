"""Copies of champions on the disk: a start while the registry is away, and copies that are no good."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from mlops_platform.errors import ModelError
from mlops_platform.resources.registry.model_registry import CHAMPION, MlflowTracking, RegisteredVersion
from mlops_platform.serving import model_cache
from mlops_platform.serving.app import follower
from mlops_platform.serving.champion import ChampionFollower
from mlops_platform.serving.model_cache import KEPT, ModelCopies
from mlops_platform.settings import Settings
from mlops_platform_tests.serving.conftest import TEXTS, Registry, follower_of, tracking_of

FIRST = RegisteredVersion("1", "run1", {"data_version": "d1"}, datetime(2026, 1, 1, tzinfo=UTC))


class Files:
    """A source whose models are words in a file."""

    def __init__(self) -> None:
        self.down, self.full = False, False
        self.downloads = 0

    def load(self, version: str) -> Any:
        if self.down:
            raise ModelError("The source is down for the test.")
        return f"model {version}"

    def download(self, version: str, folder: Path) -> None:
        model = self.load(version)
        (folder / "model").write_text(model)
        if self.full:
            raise OSError(28, "No space left on device")
        self.downloads += 1


def _read(folder: Path) -> Any:
    text = (folder / "model").read_text()
    if not text.startswith("model"):
        raise ValueError(text)
    return text


def _version(number: int) -> RegisteredVersion:
    return replace(FIRST, version=str(number), run_id=f"run{number}")


@pytest.fixture
def source() -> Files:
    return Files()


@pytest.fixture
def copies(tmp_path: Path, source: Files, monkeypatch: pytest.MonkeyPatch) -> ModelCopies:
    monkeypatch.setattr(model_cache, "load_model", _read)
    return _copies(tmp_path, source)


def _copies(tmp_path: Path, source: Files) -> ModelCopies:
    return ModelCopies(tmp_path / "models", cast(MlflowTracking, source))


def test_a_model_is_copied_once_and_then_needs_no_source(copies: ModelCopies, source: Files, tmp_path: Path) -> None:
    assert copies.last() is None
    assert copies.load(FIRST) == "model 1"
    copies.remember(FIRST)
    source.down = True
    again = _copies(tmp_path, source)
    last = again.last()
    assert last == FIRST
    assert again.load(last) == "model 1"
    assert source.downloads == 1


def test_the_present_and_the_last_one_are_kept(copies: ModelCopies, tmp_path: Path) -> None:
    for number in (1, 2, 3, 2, 4):
        copies.load(_version(number))
        copies.remember(_version(number))
        time.sleep(0.01)  # the order is that of the times of change
    kept = {path.name for path in (tmp_path / "models").iterdir()}
    assert kept == {"2-run2", "4-run4", "champion.json"}
    assert len(kept) == KEPT + 1


def test_a_registry_that_was_made_anew_is_not_taken_for_the_old_one(copies: ModelCopies, source: Files) -> None:
    copies.load(FIRST)
    copies.load(replace(FIRST, run_id="another"))
    assert source.downloads == 2


@pytest.mark.parametrize("damage", ["changed", "emptied"])
def test_a_damaged_copy_is_made_anew(copies: ModelCopies, source: Files, tmp_path: Path, damage: str) -> None:
    copies.load(FIRST)
    file = tmp_path / "models" / "1-run1" / "model"
    file.write_text("torn") if damage == "changed" else file.unlink()
    source.down = True
    with pytest.raises(ModelError, match="down for the test"):
        copies.load(FIRST)
    source.down = False
    assert copies.load(FIRST) == "model 1"
    assert file.read_text() == "model 1"


def test_a_disk_without_room_costs_the_copy_and_not_the_model(
    copies: ModelCopies, source: Files, tmp_path: Path
) -> None:
    source.full = True
    assert copies.load(FIRST) == "model 1"
    copies.remember(FIRST)
    assert copies.last() is None
    source.full = False
    assert copies.load(FIRST) == "model 1"
    assert copies.last() == FIRST
    assert [path.name for path in (tmp_path / "models").iterdir() if path.is_dir()] == ["1-run1"]


def test_where_no_folder_can_be_made_models_are_served(tmp_path: Path, source: Files) -> None:
    (tmp_path / "models").touch()
    copies = _copies(tmp_path, source)
    assert copies.load(FIRST) == "model 1"
    copies.remember(FIRST)


def test_the_service_starts_from_the_copy_while_the_registry_is_away(registry_home: Path, tmp_path: Path) -> None:
    """With MLflow's own files: they load without the store that they were copied from."""
    registry = Registry(tracking_of(registry_home))
    first = follower_of(registry, ModelCopies(tmp_path, registry.tracking))
    first.poll()
    assert first.current is not None
    gone = MlflowTracking(tracking_uri="http://127.0.0.1:9", store_dir=str(tmp_path), ui_url="")
    second = ChampionFollower(gone, 3600, ModelCopies(tmp_path, gone))
    second.start()
    second.stop()
    assert second.current is not None
    assert second.current.registered == first.current.registered
    assert second.problem is not None
    assert "http://127.0.0.1:9 does not answer" in second.problem
    texts = [(title, "") for title in TEXTS.values()]
    assert second.current.predict(texts) == first.current.predict(texts)


def test_a_copy_that_is_no_good_does_not_keep_the_registry_from_being_asked(
    registry_home: Path, tmp_path: Path
) -> None:
    registry = Registry(tracking_of(registry_home))
    follower_of(registry, ModelCopies(tmp_path, registry.tracking)).poll()
    (tmp_path / "champion.json").write_text("{")
    late = follower_of(registry, ModelCopies(tmp_path, registry.tracking))
    late.start()
    late.stop()
    assert (late.problem, late.current is None) == (None, False)
    found = registry.by_alias(CHAMPION)
    assert ModelCopies(tmp_path, registry.tracking).last() == found  # and it is whole again


def test_a_registry_that_answers_that_there_is_no_champion_is_believed(registry_home: Path, tmp_path: Path) -> None:
    registry = Registry(tracking_of(registry_home))
    follower_of(registry, ModelCopies(tmp_path, registry.tracking)).poll()
    registry.alias_is_gone = True
    late = follower_of(registry, ModelCopies(tmp_path, registry.tracking))
    late.start()
    late.stop()
    assert (late.current, late.problem) == (None, "there is no champion yet: run `mlops run`")


def test_only_a_registry_elsewhere_is_copied_each_to_its_folder(tmp_path: Path) -> None:
    local = follower(Settings(_env_file=None, home=tmp_path))
    server = follower(Settings(_env_file=None, home=tmp_path, mlflow_uri="http://127.0.0.1:9"))
    assert (local._copies, type(server._copies)) == (None, ModelCopies)
    uris = ("http://user:password@one:5000", "http://one:5000", "http://two:5000")
    first, same, other = (Settings(_env_file=None, home=tmp_path, mlflow_uri=uri).model_copies_dir for uri in uris)
    assert first == same != other
    assert first.parent == tmp_path / "serving" / "models"
