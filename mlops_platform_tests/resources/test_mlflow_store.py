"""The database of a local MLflow store: made ahead by another process, whole or not at all."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from mlops_platform.resources import mlflow_store
from mlops_platform.resources.mlflow_store import database_made_meanwhile, make_database
from mlops_platform.resources.tracking import CHAMPION, MlflowTracking

SECONDS = 60.0


def _store(folder: Path) -> MlflowTracking:
    return MlflowTracking(
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", store_dir=str(folder), ui_url="http://127.0.0.1"
    )


def _tables(database: Path) -> list[tuple[object, ...]]:
    """The columns and indexes of a database, and the migration that it stands at."""
    queries = (
        # not the statements: MLflow puts a table's constraints in any order
        "select made.name, part.* from sqlite_master made, pragma_table_info(made.name) part order by 1, 2",
        "select name, tbl_name from sqlite_master where type = 'index' order by 1",
        "select version_num from alembic_version",
    )
    with closing(sqlite3.connect(database)) as opened:
        return [row for query in queries for row in opened.execute(query)]


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def made_by_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database that MLflow makes at its first use."""
    folder = tmp_path_factory.mktemp("by-mlflow")
    assert _store(folder).by_alias(CHAMPION) is None
    return folder / "mlflow.db"


def test_meanwhile_the_database_is_made_that_mlflow_makes(tmp_path: Path, made_by_mlflow: Path) -> None:
    folder = tmp_path / "a new & folder"
    with database_made_meanwhile(f"sqlite:///{folder / 'mlflow.db'}"):
        _wait((folder / "mlflow.db").exists)
        _wait(lambda: not (folder / ".new").exists())
    assert _tables(folder / "mlflow.db") == _tables(made_by_mlflow)
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "mlflow.db"]
    assert _store(folder).by_alias(CHAMPION) is None


def test_who_uses_the_store_meanwhile_waits_for_it(tmp_path: Path, made_by_mlflow: Path) -> None:
    with database_made_meanwhile(f"sqlite:///{tmp_path / 'mlflow.db'}"):
        _wait((tmp_path / ".new").exists)
        experiment = _store(tmp_path).experiment("meanwhile")
    assert _store(tmp_path).experiment("meanwhile") == experiment
    assert _tables(tmp_path / "mlflow.db") == _tables(made_by_mlflow)


def test_what_a_killed_process_left_is_made_anew(tmp_path: Path, made_by_mlflow: Path) -> None:
    database = tmp_path / "mlflow.db"
    with database_made_meanwhile(f"sqlite:///{database}"):
        _wait((tmp_path / ".new" / "mlflow.db").exists)
    assert not database.exists()
    (tmp_path / ".new" / "mlflow.db").write_bytes(b"half a database")
    make_database(str(database))
    assert _tables(database) == _tables(made_by_mlflow)
    assert not (tmp_path / ".new").exists()


def test_a_store_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes(b"what somebody has")
    make_database(str(database))
    with database_made_meanwhile(f"sqlite:///{database}"):
        pass
    assert database.read_bytes() == b"what somebody has"


def test_a_database_that_another_program_made_meanwhile_stays(tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    with subprocess.Popen([sys.executable, "-c", mlflow_store._CHILD, str(database)]) as making:
        _wait((tmp_path / ".new" / "mlflow.db").exists)
        database.write_bytes(b"of a program that knows no lock")
        assert making.wait(SECONDS) == 0
    assert database.read_bytes() == b"of a program that knows no lock"
    assert not (tmp_path / ".new").exists()


def test_of_a_server_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with database_made_meanwhile("http://127.0.0.1:1"):
        time.sleep(0.5)
    assert list(tmp_path.iterdir()) == []
