"""The doctor on addresses as people write them: with a password in them, with a slash at the end."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from mlops_platform.cli.doctor import evaluate, services
from mlops_platform.settings import Settings, without_password


def _detail(name: str, settings: Settings) -> str:
    (check,) = [check for check in services(settings) if check.name == name]
    return evaluate(check, settings).detail


def test_an_mlflow_address_is_shown_without_its_password() -> None:
    settings = Settings(env="production", mlflow_uri="http://us:hid@den@127.0.0.1:1")
    detail = _detail("MLflow server", settings)
    assert detail.startswith("The MLflow server http://127.0.0.1:1 does not answer (ConnectionError)")
    assert "den@" not in detail
    assert settings.mlflow_url == "http://127.0.0.1:1"  # what links and `mlops ui` show


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://a:b@host:5000/mlflow/", "http://host:5000/mlflow/"),
        ("http://host/a@b", "http://host/a@b"),
        ("databricks", "databricks"),
        ("/data/mlruns", "/data/mlruns"),
        ("sqlite:////data/a@b/mlflow.db", "sqlite:////data/a@b/mlflow.db"),
    ],
)
def test_nothing_else_of_an_address_is_lost(address: str, shown: str) -> None:
    assert without_password(address) == shown


def test_an_airbyte_address_may_end_in_a_slash_and_needs_its_workspace() -> None:
    values = {
        "env": "production",
        "airbyte_url": "http://127.0.0.1:1/",
        "airbyte_client_id": "us",
        "airbyte_client_secret": SecretStr("them"),
        "airbyte_projects_connection": "a",
        "airbyte_tags_connection": "b",
    }
    assert _detail("Airbyte", Settings(**values)) == "MLOPS_AIRBYTE_WORKSPACE_ID is not set"  # type: ignore[arg-type]
    found = _detail("Airbyte", Settings(airbyte_workspace_id="w", **values))  # type: ignore[arg-type]
    assert "Airbyte at http://127.0.0.1:1 is unavailable (ConnectionError)" in found
