"""`mlops promote`, `rollback` and `history` as they are typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mlops_platform.resources.registry.local_store import MlflowStore
from mlops_platform_tests.conftest import run_mlops
from mlops_platform_tests.serving.conftest import make_registry, tracking_of


@pytest.fixture(scope="module")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two versions; the first is evaluated and above the bar, the second was never evaluated."""
    home = tmp_path_factory.mktemp("two") / "home"
    make_registry(home)
    tracking = tracking_of(home)
    run = tracking.version("1").run_id
    tracking.log_evaluation(run, {"test_f1_weighted": 0.9, "test_f1_weighted_of_majority": 0.3}, {})
    return home


@pytest.fixture
def home(two_versions: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(two_versions, tmp_path / "home"))


def test_a_person_moves_the_champion_and_reads_the_history(home: Path) -> None:
    refused = run_mlops(home, "promote", "2")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == (
        "mlops: Version 2 is not promoted: it was never evaluated. `--force REASON` promotes it anyway.\n"
    )
    forced = run_mlops(home, "promote", "2", "--force", "The old one is wrong.", USER="ada")
    assert forced.stdout == "The champion is version 2; it was version 1. The old one is wrong.\n"
    back = run_mlops(home, "rollback", "--reason", "The new one is worse.", USER="bob")
    assert back.stdout == "The champion is version 1; it was version 2. The new one is worse.\n"
    lines = run_mlops(home, "history").stdout.splitlines()
    assert lines[:3] == ["version 1 (champion)", "    data         d1", "    Dagster run  r1"]
    assert lines[9].endswith("promote to 2 from 1, by ada, forced")
    assert lines[10] == "    The old one is wrong."
    assert lines[11].endswith("rollback to 1 from 2, by bob")


def test_from_a_version_to_its_run_and_data_and_back(home: Path) -> None:
    by = {of: json.loads(run_mlops(home, "history", of, "--json").stdout) for of in ("2", "r2", "d1", "zz")}
    (version,) = by["2"]["versions"]
    assert (version["data_version"], version["dagster_run_id"]) == ("d1", "r2")
    assert [each["version"] for each in by["r2"]["versions"]] == ["2"]
    assert [each["version"] for each in by["d1"]["versions"]] == ["1", "2"]
    assert by["zz"] == {"champion": "1", "versions": [], "moves": []}


def test_without_a_model_it_is_a_sentence(tmp_path: Path) -> None:
    for command in (("history",), ("rollback",), ("promote", "1")):
        answer = run_mlops(tmp_path / "home", *command)
        assert answer.returncode == 1
        assert answer.stderr == f"mlops: There is no model in {tmp_path / 'home'} yet: run `mlops run` first.\n"


def test_a_store_without_a_model_is_none(tmp_path: Path) -> None:
    MlflowStore(f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}", tmp_path / "mlflow").client()
    answer = run_mlops(tmp_path, "history")
    assert answer.returncode == 1
    assert answer.stderr == f"mlops: There is no model in {tmp_path} yet: run `mlops run` first.\n"


def test_the_champion_is_not_promoted_again(home: Path) -> None:
    answer = run_mlops(home, "promote", "1")
    assert answer.stderr == "mlops: Version 1 of project-tagger is the champion already.\n"
