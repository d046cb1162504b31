"""`mlops doctor` from inside: each thing that can be wrong is named with its remedy, and nothing is changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_platform.cli import doctor
from mlops_platform.cli.doctor import Finding, examine
from mlops_platform.settings import Settings
from mlops_platform_tests.training_graph import TrainingHome


def _found(settings: Settings) -> dict[str, Finding]:
    findings = {finding.name: finding for finding in examine(settings)}
    assert all("\n" not in finding.detail for finding in findings.values())
    return findings


def test_before_the_first_run_nothing_is_missing_and_nothing_is_made(tmp_path: Path) -> None:
    found = _found(Settings(home=tmp_path / "home"))
    assert {name: finding.state for name, finding in found.items()} == {
        "Python": "ok",
        "packages": "ok",
        "MLOPS_HOME": "ok",
        "source projects": "ok",
        "source tags": "ok",
        "warehouse": "note",
        "dbt project": "ok",
        "expectation suites": "ok",
        "MLflow": "note",
        "champion": "note",
    }
    assert "`mlops run`" in found["warehouse"].detail
    assert list((tmp_path / "home").iterdir()) == []


def test_a_home_that_ran_shows_rows_and_the_champion(trained_once: TrainingHome) -> None:
    found = _found(trained_once.settings)
    assert found["champion"] == Finding("champion", "ok", "version 1 loads")
    assert found["MLflow"].state == "ok"
    assert found["warehouse"].state == "ok"
    assert "labeled_projects 240" in found["warehouse"].detail


def test_a_champion_without_its_files_is_missing(trained: TrainingHome) -> None:
    (trained.model_dir("1") / "model.skops").write_bytes(b"")
    champion = _found(trained.settings)["champion"]
    assert champion.state == "missing"
    assert "Version 1" in champion.detail


@pytest.mark.parametrize(
    ("file", "name"), [("warehouse.duckdb", "warehouse"), ("mlflow/mlflow.db", "champion")], ids=["warehouse", "mlflow"]
)
def test_a_damaged_store_is_missing_with_its_path(tmp_path: Path, file: str, name: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"no database " * 1000)
    finding = _found(Settings(home=tmp_path))[name]
    assert finding.state == "missing"
    assert str(path) in finding.detail


def test_a_home_that_cannot_be_made_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    home = _found(Settings(home=tmp_path / "file" / "home"))["MLOPS_HOME"]
    assert home.state == "missing"
    assert home.detail.endswith("set MLOPS_HOME")


@pytest.mark.parametrize("uri", ["nowhere.csv", "http://127.0.0.1:9/tags.csv"])
def test_a_source_that_cannot_be_read_names_its_setting(tmp_path: Path, uri: str) -> None:
    found = _found(Settings(home=tmp_path, tags_uri=uri))
    assert found["source projects"].state == "ok"
    assert found["source tags"].state == "missing"
    assert uri in found["source tags"].detail
    assert "MLOPS_TAGS_URI" in found["source tags"].detail


def test_a_package_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "PACKAGES", ("dagster", "no-such-package-of-ours"))
    packages = _found(Settings(home=tmp_path))["packages"]
    assert packages == Finding("packages", "missing", "no-such-package-of-ours: run `make run` to set up again")


def test_a_checkout_that_lacks_files_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DBT_PROJECT_DIR", tmp_path / "dbt")
    found = _found(Settings(home=tmp_path))
    assert found["dbt project"].state == "missing"
    assert "complete checkout" in found["dbt project"].detail
