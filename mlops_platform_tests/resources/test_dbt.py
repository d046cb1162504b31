"""The manifest: parsed when needed, never stale, rebuilt when damaged; dbt in this process, which leaves no trace."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_platform.errors import TransformError
from mlops_platform.resources.dbt.manifest import PreparedProject, first_lines
from mlops_platform.resources.dbt.runner import DbtRunner
from mlops_platform.resources.warehouse.duckdb import DuckDBWarehouse
from mlops_platform.settings import DBT_PROJECT_DIR, PROJECT_ROOT
from mlops_platform_tests.dbt_projects import prepared_project

RAW = """
    create table projects (id bigint, created_on timestamp, title varchar, description varchar);
    create table tags (id bigint, tag varchar);
    insert into projects values (1, '2020-01-01', 'a', 'b');
"""


def _variables(folder: Path) -> dict[str, str]:
    return {"warehouse_path": str(folder / "warehouse.duckdb"), "schema_name": "mlops_course"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> PreparedProject:
    """A copy of the project, prepared in a path with spaces and with no dbt on PATH."""
    home = tmp_path_factory.mktemp("a home")
    ignored = shutil.ignore_patterns("target", "logs")
    project_dir = Path(shutil.copytree(DBT_PROJECT_DIR, home / "dbt project", ignore=ignored))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/usr/bin:/bin")
        return prepared_project(project_dir, home / "state" / "dbt", _variables(home))


def _state() -> tuple[object, ...]:
    root = logging.getLogger()
    return Path.cwd(), dict(os.environ), list(root.handlers), root.level


def _files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def _model(manifest: object, name: str) -> dict[str, str]:
    assert isinstance(manifest, dict)
    return manifest["nodes"][f"model.mlops_course.{name}"]


def test_a_project_is_prepared_and_its_folder_stays_untouched(project: PreparedProject) -> None:
    dbt_project = project.dbt_project
    assert _model(project.manifest, "labeled_projects")["schema"] == "mlops_course"
    assert {"manifest.json", "partial_parse.msgpack"} <= _files(dbt_project.target_path)
    assert {"target", "logs", ".user.yml"}.isdisjoint(_files(dbt_project.project_dir)), "it may be read-only"


PREPARED = """
import sys
from pathlib import Path
from mlops_platform.resources.dbt.manifest import prepare_project
project = prepare_project(Path(sys.argv[1]), Path(sys.argv[2]), {"warehouse_path": "x"}, "duckdb")
print(len(project.manifest["nodes"]))
"""


def test_two_processes_prepare_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PREPARED, str(DBT_PROJECT_DIR), str(tmp_path / "dbt")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT_ROOT) for _ in range(2)]
    answers = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert answers == ["14", "14"]
    assert [path.name for path in (tmp_path / "dbt").iterdir() if path.is_dir()] == [
        prepared_project(DBT_PROJECT_DIR, tmp_path / "dbt", {"warehouse_path": "x"}).dbt_project.target_path.name
    ]


def test_a_manifest_is_reused_rebuilt_and_never_stale(
    project: PreparedProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    dbt_project = project.dbt_project

    def again() -> PreparedProject:
        return prepared_project(dbt_project.project_dir, dbt_project.target_path.parent, project.variables)

    with monkeypatch.context() as patch:
        patch.setattr("dbt.cli.main.dbtRunner", lambda **_: pytest.fail("dbt ran again"))
        assert again().dbt_project.target_path == dbt_project.target_path

    written = dbt_project.manifest_path
    whole = written.read_bytes()
    written.write_bytes(whole[: len(whole) // 2])
    assert again().manifest["nodes"].keys() == project.manifest["nodes"].keys()

    model = dbt_project.project_dir / "models" / "labeled_projects.sql"
    sql = model.read_text()
    try:
        model.write_text(sql.replace("where tags.tag is not null", "where tags.tag <> 'gone'"))
        changed = again()
        assert "gone" in _model(changed.manifest, "labeled_projects")["raw_code"]
        assert changed.dbt_project.target_path != dbt_project.target_path

        model.write_text("select {{ nonsense(")
        with pytest.raises(TransformError, match=r"^dbt cannot read the project in .*labeled_projects") as error:
            again()
        assert "\n" not in str(error.value)
        assert "Traceback" not in str(error.value)
    finally:
        model.write_text(sql)


def test_a_folder_that_cannot_be_written_gives_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    with pytest.raises(TransformError, match=r"^Cannot write dbt's manifest in .* set MLOPS_HOME"):
        prepared_project(DBT_PROJECT_DIR, tmp_path / "home", _variables(tmp_path))


def test_a_folder_without_a_project_gives_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(TransformError, match=r"^No dbt project in .*full checkout"):
        prepared_project(tmp_path, tmp_path / "dbt", {})


def test_the_bigquery_target_parses_without_an_account(tmp_path: Path) -> None:
    variables = {"schema_name": "course", "bigquery_project": "acme"}
    project = prepared_project(DBT_PROJECT_DIR, tmp_path / "dbt", variables, target="bigquery")
    assert _model(project.manifest, "labeled_projects")["relation_name"] == "`acme`.`course`.`labeled_projects`"
    sources = [source["relation_name"] for source in project.manifest["sources"].values()]
    assert sources == ["`acme`.`course`.`projects`", "`acme`.`course`.`tags`"]


def test_a_build_leaves_the_process_as_it_was(project: PreparedProject, capfd: pytest.CaptureFixture[str]) -> None:
    variables = project.variables
    warehouse = DuckDBWarehouse(path=variables["warehouse_path"], schema_name="mlops_course", lock_timeout=5)
    with warehouse.connect() as connection:
        connection.execute(RAW)
    before = _state()

    runner = DbtRunner(options=project.options)
    good = runner.build(["mlops_course.labeled_projects", "mlops_course.unlabeled_projects"])
    assert [(node.status, node.message) for node in good.nodes] == [("success", "OK")] * 2
    assert good.nodes[0].sql.startswith("select")
    with warehouse.connect() as connection:
        connection.execute("alter table projects drop column title")
    bad = runner.build(["mlops_course.labeled_projects"])
    assert [node.status for node in bad.nodes] == ["error"]

    assert _state() == before
    printed = capfd.readouterr()
    assert printed.out + printed.err == ""
    # another process can open the file at once, after a failure too
    opened = f"import duckdb; duckdb.connect({variables['warehouse_path']!r})"
    subprocess.run([sys.executable, "-c", opened], check=True)


def _options_without_a_project(folder: Path) -> list[str]:
    return ["--project-dir", str(folder), "--profiles-dir", str(folder), "--log-path", str(folder)]


def test_dbt_that_stops_early_gives_a_sentence(tmp_path: Path) -> None:
    runner = DbtRunner(options=_options_without_a_project(tmp_path))
    with pytest.raises(TransformError, match=r"^dbt stopped: ") as error:
        runner.build(["anything"])
    assert "\n" not in str(error.value)


def test_an_interrupt_passes_through_dbt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    # deep inside dbt, which turns whatever it catches into a result
    monkeypatch.setattr("dbt.cli.requires.load_profile", interrupt)
    runner = DbtRunner(options=_options_without_a_project(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        runner.build(["anything"])


def test_first_lines_drops_excerpts() -> None:
    message = 'Binder Error: no column "x"\n\nLINE 3: select x\n          ^\n  compiled code at /tmp/x.sql'
    assert first_lines(message) == 'Binder Error: no column "x"'
    assert first_lines("") == "it gave no reason"
    assert len(first_lines("x" * 1000)) < 410
