"""SQLite files stay open while a run writes to them, and are left as Dagster leaves them."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import dagster as dg

from mlops_platform.commands.instance import LOCAL_FILE, held_open


def test_the_log_of_each_file_outlives_an_event_and_not_the_run(tmp_path: Path) -> None:
    shutil.copy(LOCAL_FILE, tmp_path)
    folder, run_id = tmp_path / "history" / "runs", str(uuid.uuid4())
    during: list[str] = []

    @dg.asset
    def looking() -> None:
        during.extend(sorted(path.name for path in folder.glob("*.db-wal")))

    job = dg.Definitions([looking], jobs=[dg.define_asset_job("look")]).resolve_job_def("look")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        with held_open(instance, run_id):
            assert job.execute_in_process(instance=instance, run_id=run_id).success
        assert during == sorted([f"{run_id}.db-wal", "index.db-wal"])
        assert list(folder.glob("*.db-wal")) == []
        assert instance.get_run_stats(run_id).steps_succeeded == 1


def test_an_instance_without_files_is_left_alone() -> None:
    with dg.DagsterInstance.ephemeral() as instance, held_open(instance, str(uuid.uuid4())):
        pass
