"""The graph as a whole: what is in it, and what loading it costs."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap
from pydantic import SecretStr
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.json import JSONSnapshotExtension

from mlops_platform.build import build_definitions
from mlops_platform.resources.factory import dbt_project
from mlops_platform.settings import PROJECT_ROOT, Settings

HEAVY = ("great_expectations", "mlflow", "sklearn", "optuna", "pandas", "matplotlib", "duckdb", "google")
SENTENCE = ("torch", "transformers", "onnx", "onnxruntime", "tokenizers", "safetensors", "huggingface_hub")


@pytest.fixture(scope="module")
def defs(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    return build_definitions(Settings(home=tmp_path_factory.mktemp("home")))


def _describe(defs: dg.Definitions) -> dict[str, Any]:
    graph = defs.resolve_asset_graph()
    assets = {}
    for key in sorted(graph.get_all_asset_keys(), key=lambda each: each.to_user_string()):
        node = graph.get(key)
        condition = node.automation_condition
        checks = {check.name: graph.get(check).blocking for check in graph.get_check_keys_for_assets({key})}
        policy = node.freshness_policy
        assets[key.to_user_string()] = {
            "group": node.group_name,
            "deps": sorted(parent.to_user_string() for parent in node.parent_keys),
            "owners": sorted(node.owners),
            "automation": condition.get_label() if condition else None,
            "freshness": str(policy),
            "blocking_checks": sorted(name for name, blocking in checks.items() if blocking),
            "other_checks": sorted(name for name, blocking in checks.items() if not blocking),
        }
    repository = defs.get_repository_def()
    return {
        "assets": assets,
        "jobs": {
            job.name: sorted(key.to_user_string() for key in job.asset_layer.selected_asset_keys)
            for job in repository.get_all_jobs()
            if not job.name.startswith("__")
        },
        "schedules": {each.name: each.cron_schedule for each in repository.schedule_defs},
        "sensors": sorted(each.name for each in repository.sensor_defs),
    }


def test_the_graph_is_what_it_was(defs: dg.Definitions, snapshot: SnapshotAssertion) -> None:
    """Keys, groups, deps, checks and policies; `pytest --snapshot-update` takes a change that is meant."""
    assert _describe(defs) == snapshot.use_extension(JSONSnapshotExtension)


def test_every_asset_is_described_owned_and_kept_fresh(defs: dg.Definitions) -> None:
    graph = defs.resolve_asset_graph()
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        assert len(node.description or "") > 40, key
        assert node.owners, key
        assert node.kinds, key
        assert node.freshness_policy is not None, key


@pytest.mark.parametrize(("loader", "runner"), [("csv", "core"), ("airbyte", "cloud")])
def test_production_differs_in_kinds_only(defs: dg.Definitions, tmp_path: Path, loader: Any, runner: Any) -> None:
    settings = Settings(env="production", home=tmp_path, bigquery_project="p", loader=loader, dbt_runner=runner)
    production = build_definitions(settings)
    assert _describe(production)["assets"] == _describe(defs)["assets"]
    here, there = (each.resolve_asset_graph() for each in (defs, production))
    for key in here.materializable_asset_keys:
        expected = {{"duckdb": "bigquery", "csv": loader}.get(kind, kind) for kind in here.get(key).kinds}
        if runner == "cloud":
            expected = {"dbtcloud" if kind == "dbt" else kind for kind in expected}
        assert there.get(key).kinds == expected, key
        assert there.get(key).pools == here.get(key).pools, key


def test_loading_the_definitions_imports_nothing_heavy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path))
    dbt_project(Settings(home=tmp_path))  # only the first load parses the dbt project
    code = (
        "import sys; from mlops_platform.definitions import defs; defs()\n"
        # gRPC, which Dagster uses, imports protobuf; the bare namespaces cost nothing
        "light = ('google', 'google.cloud', 'google.protobuf', 'google._upb')\n"
        "mods = {m for m in sys.modules if m not in light and not m.startswith(light[2:])}\n"
        f"print(sorted({{m.split('.')[0] for m in mods}} & set({HEAVY + SENTENCE!r})))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT_ROOT)
    assert answer.stdout.strip() == "[]"


def test_a_user_adds_assets_in_the_defs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_out = shutil.ignore_patterns(".*", "var", "*.egg-info", "benchmarks", "mlops_platform_tests", "__pycache__")
    project = Path(shutil.copytree(PROJECT_ROOT, tmp_path / "project", ignore=kept_out))
    monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(project))
    monkeypatch.setenv("DAGSTER_HOME", "")
    dg_command = [sys.executable, "-m", "dagster_dg_cli.cli"]
    subprocess.run([*dg_command, "scaffold", "defs", "dagster.asset", "assets/mine.py"], check=True, cwd=project)
    written = project / "mlops_platform" / "defs" / "assets" / "mine.py"
    assert "def mine" in written.read_text()
    written.write_text("import dagster as dg\n\n@dg.asset(deps=['labeled_projects'])\ndef mine() -> None: ...\n")
    code = (
        "from mlops_platform.definitions import defs\n"
        "graph = defs().resolve_asset_graph()\n"
        "keys = {key.to_user_string() for key in graph.get_all_asset_keys()}\n"
        "assert {'mine', 'projects', 'labeling_queue'} <= keys, keys"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=project)


def test_two_code_locations_do_not_share_settings(defs: dg.Definitions, tmp_path: Any) -> None:
    other = build_definitions(Settings(home=tmp_path))
    assert defs.resources is not None
    assert other.resources is not None
    assert defs.resources["warehouse"].path != other.resources["warehouse"].path


def test_no_secret_is_in_what_the_ui_shows_of_the_resources(tmp_path: Path) -> None:
    secrets = {name: SecretStr(f"hidden-{name}") for name in ("airbyte_client_secret", "dbt_cloud_token")}
    key = base64.b64encode(b'{"private_key": "hidden-key"}').decode()
    settings = Settings(
        env="production",
        home=tmp_path,
        bigquery_credentials=SecretStr(key),
        postgres_url=SecretStr("postgresql://somebody:hidden-password@127.0.0.1:1/dagster"),
        **secrets,  # type: ignore[arg-type]
    )
    repository = build_definitions(settings).get_repository_def()
    shown = repr(RepositorySnap.from_def(repository))
    assert "BigQueryWarehouse" in shown
    assert "hidden" not in shown
    assert key not in shown
