"""Production without its packages: one sentence with the remedy, whichever command is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_platform.settings import PROJECT_ROOT

MODULES = ("dagster_airbyte", "dagster_gcp", "dagster_postgres", "dbt.adapters.bigquery", "sqlalchemy_bigquery")
REMEDY = "pip install '.[production]'"
# stands at the front of the path, so that each process of the command begins with it
HIDDEN = f"import sys\nfor name in {MODULES!r}:\n    sys.modules[name] = None\n"


@pytest.mark.parametrize(
    "command",
    [
        ("mlops_platform.cli.main", "run"),
        ("mlops_platform.cli.main", "doctor"),
        ("dagster", "definitions", "validate", "-m", "mlops_platform.definitions"),
    ],
    ids=["run", "doctor", "validate"],
)
def test_what_is_not_installed_is_named_with_its_remedy(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDDEN, encoding="utf-8")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "DAGSTER_", "DBT_"))}
    answer = subprocess.run(
        [sys.executable, "-m", *command],
        capture_output=True,
        text=True,
        cwd=PROJECT_ROOT,
        env={
            **clean,
            "PYTHONPATH": str(tmp_path),
            "MLOPS_ENV": "production",
            "MLOPS_HOME": str(tmp_path / "home"),
            "MLOPS_BIGQUERY_PROJECT": "a-project",
            "MLOPS_POSTGRES_URL": "postgresql://somebody:hidden@127.0.0.1:1/dagster",
        },
        timeout=120,
    )
    printed = answer.stdout + answer.stderr
    assert answer.returncode == 1, printed
    assert REMEDY in printed
    assert "dagster-airbyte, dagster-gcp, dagster-postgres, dbt-bigquery, sqlalchemy-bigquery" in printed
    assert "ModuleNotFoundError" not in printed
    if command[0] == "mlops_platform.cli.main":
        assert "Traceback" not in printed


SENTENCE = ("onnxruntime", "optimum", "sentence_transformers", "tokenizers")


@pytest.mark.parametrize("command", ["run", "doctor"])
def test_sentence_vectors_without_their_packages_are_named_with_the_remedy(tmp_path: Path, command: str) -> None:
    hidden = HIDDEN.replace(repr(MODULES), repr(SENTENCE))
    (tmp_path / "sitecustomize.py").write_text(hidden, encoding="utf-8")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "DAGSTER_", "DBT_"))}
    answer = subprocess.run(
        [sys.executable, "-m", "mlops_platform.cli.main", command],
        capture_output=True,
        text=True,
        cwd=PROJECT_ROOT,
        env={**clean, "PYTHONPATH": str(tmp_path), "MLOPS_FEATURES": "sentence", "MLOPS_HOME": str(tmp_path / "home")},
        timeout=120,
    )
    printed = answer.stdout + answer.stderr
    assert answer.returncode == 1, printed
    assert "onnxruntime, optimum-onnx, sentence-transformers, tokenizers" in printed
    assert "pip install '.[sentence]'" in printed
    assert "Traceback" not in printed
