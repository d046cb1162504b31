"""The BigQuery emulator, started once a session, with a fresh dataset for each test; Airbyte's double for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_platform.resources.factory import bigquery_warehouse
from mlops_platform.resources.warehouse.bigquery.warehouse import BigQueryWarehouse
from mlops_platform.settings import Settings
from mlops_platform_tests.production.airbyte_world import world
from mlops_platform_tests.production.bigquery_behind import behind, proxy
from mlops_platform_tests.production.bigquery_emulator import LOCATION, PROJECT, Emulator, running

__all__ = ["behind", "proxy", "world"]


@pytest.fixture(scope="session")
def bigquery_emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with running(tmp_path_factory.mktemp("bigquery")) as emulator:
        yield emulator


@pytest.fixture
def bigquery_dataset(bigquery_emulator: Emulator) -> Iterator[str]:
    """Name of an empty dataset, which goes away with the test."""
    from google.cloud import bigquery

    name = f"test_{uuid.uuid4().hex[:12]}"
    with bigquery_emulator.client() as client:
        dataset = bigquery.Dataset(f"{PROJECT}.{name}")
        dataset.location = LOCATION
        client.create_dataset(dataset)
        yield name
        client.delete_dataset(dataset, delete_contents=True, not_found_ok=True)


@pytest.fixture
def bigquery_settings(
    bigquery_emulator: Emulator, bigquery_dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings of production, whose warehouse is the fresh dataset; the environment holds them too."""
    for name, value in bigquery_emulator.env(bigquery_dataset, tmp_path / "home").items():
        monkeypatch.setenv(name, value)
    return Settings(_env_file=None)


@pytest.fixture
def bigquery(bigquery_settings: Settings) -> BigQueryWarehouse:
    """The warehouse of production, on the fresh dataset."""
    return bigquery_warehouse(bigquery_settings)
