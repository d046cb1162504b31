"""The database of a local MLflow store: the first use creates it, complete or not at all."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from mlops_platform.resources.registry.local_store import MlflowStore
from mlops_platform.settings import PROJECT_ROOT

SECONDS = 120.0
USE = """
import sys
from pathlib import Path
from mlops_platform.resources.registry.model_registry import MlflowTracking

folder = Path(sys.argv[1])
store = MlflowTracking(
    tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", store_dir=str(folder), ui_url="http://127.0.0.1"
)
print(store.experiment("shared"))
"""


def _store(folder: Path) -> MlflowStore:
    return MlflowStore(f"sqlite:///{folder / 'mlflow.db'}", folder)


def _use(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", USE, str(folder)], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True
    )


def _schema(database: Path) -> list[tuple[object, ...]]:
    """The columns and indexes of a database, and the migration that it is at."""
    queries = (
        # not the statements: the order of a table's constraints varies
        "select entry.name, part.* from sqlite_master entry, pragma_table_info(entry.name) part order by 1, 2",
        "select name, tbl_name from sqlite_master where type = 'index' order by 1",
        "select version_num from alembic_version",
    )
    with closing(sqlite3.connect(database)) as connection:
        return [row for query in queries for row in connection.execute(query)]


def test_the_first_use_creates_the_database_that_mlflow_creates(tmp_path: Path) -> None:
    import mlflow

    store = _store(tmp_path / "a new & folder")
    assert not store.exists()
    assert store.client().search_registered_models() == []
    assert store.exists()
    mlflow.MlflowClient(f"sqlite:///{tmp_path / 'own.db'}").search_experiments()
    assert _schema(store.folder / "mlflow.db") == _schema(tmp_path / "own.db")
    assert sorted(path.name for path in store.folder.iterdir()) == [".lock", "mlflow.db"]


def test_two_processes_that_use_a_new_store_at_once_share_it(tmp_path: Path) -> None:
    users = [_use(tmp_path), _use(tmp_path)]
    experiments = [user.communicate(timeout=SECONDS)[0].strip() for user in users]
    assert [user.returncode for user in users] == [0, 0]
    assert experiments[0] == experiments[1] != ""


def test_a_process_killed_while_it_creates_the_database_leaves_none(tmp_path: Path) -> None:
    user = _use(tmp_path)
    deadline = time.monotonic() + SECONDS
    while not list(tmp_path.glob(".mlflow.db.*.partial")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    user.send_signal(signal.SIGKILL)
    user.communicate(timeout=SECONDS)
    assert not (tmp_path / "mlflow.db").exists()
    assert _store(tmp_path).client().search_registered_models() == []


def test_an_existing_database_is_not_replaced(tmp_path: Path) -> None:
    _store(tmp_path).client().create_experiment("mine")
    before = (tmp_path / "mlflow.db").stat().st_ino
    assert _store(tmp_path).client().get_experiment_by_name("mine") is not None
    assert (tmp_path / "mlflow.db").stat().st_ino == before
