"""dbt's target `bigquery` on the emulator: after a merge, a table is what a full refresh gives.

The emulator runs SQL in DuckDB and bills nothing, so what a merge reads and writes is not measured here.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import SecretStr

from mlops_platform.errors import TransformError
from mlops_platform.resources.dbt.bigquery_profile import bigquery_secrets, bigquery_variables
from mlops_platform.resources.dbt.manifest import PreparedProject
from mlops_platform.resources.dbt.runner import DbtRunner
from mlops_platform.settings import DBT_PROJECT_DIR, Settings
from mlops_platform_tests.dbt_projects import prepared_project
from mlops_platform_tests.production.bigquery_emulator import LOCATION, PROJECT, Emulator

RAW = """
    create table {0}.projects (id int64, created_on timestamp, title string, description string)
        partition by date(created_on);
    create table {0}.tags (id int64, tag string);
    insert into {0}.projects values
        (1, timestamp '2024-01-01 10:00:00', 'a', 'x'), (2, timestamp '2024-01-02 10:00:00', 'b', 'x'),
        (3, timestamp '2024-01-03 10:00:00', 'c', 'x'), (4, timestamp '2024-01-04 10:00:00', 'd', 'x'),
        (5, timestamp '2024-01-05 10:00:00', 'e', 'x');
    insert into {0}.tags values (1, 'mlops'), (2, 'other'), (3, 'other'), (4, null);
"""
# one of each: a tag changed, taken back and given; a project changed, deleted and new
CHANGES = """
    update {0}.tags set tag = 'mlops' where id = 2;
    update {0}.tags set tag = null where id = 3;
    insert into {0}.tags values (5, 'computer-vision');
    update {0}.projects set title = 'changed' where id = 1;
    delete from {0}.projects where id = 4;
    insert into {0}.projects values (6, timestamp '2024-01-06 10:00:00', 'f', 'x');
"""
# what the tables hold, by other queries than the models'
EXPECTED = {
    "labeled_projects": "select p.*, t.tag from {0}.projects p join {0}.tags t using (id) where t.tag is not null",
    "unlabeled_projects": "select * from {0}.projects where id not in (select id from {0}.tags where tag is not null)",
}
ROUNDS = 8
MODELS = ("labeled_projects", "unlabeled_projects")


class Course:
    """The raw tables in a dataset, and dbt on them with the credentials of a production environment."""

    def __init__(self, emulator: Emulator, dataset: str, home: Path) -> None:
        self.client, self.dataset, self.home = emulator.client(), dataset, home
        self.settings = Settings(
            _env_file=None,
            env="production",
            home=home,
            schema_name=dataset,
            bigquery_project=PROJECT,
            bigquery_location=LOCATION,
            bigquery_credentials=SecretStr(emulator.credentials),
            bigquery_endpoint=emulator.url,
        )
        self.run(RAW)

    def run(self, script: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        for statement in script.format(self.dataset).split(";"):
            if statement.strip():
                rows = [tuple(row.values()) for row in self.client.query(statement).result()]
        return rows

    @cached_property
    def project(self) -> PreparedProject:
        return prepared_project(DBT_PROJECT_DIR, self.home / "dbt", bigquery_variables(self.settings), "bigquery")

    def build(self, **options: Any) -> dict[str, str]:
        """Build the models and run their tests; return the status of each node by its name."""
        return self._statuses(["mlops_course"], options)

    def build_models(self, **options: Any) -> None:
        """Build the models without their tests, which takes a fraction of the time."""
        statuses = self._statuses([f"mlops_course.{model}" for model in MODELS], options)
        assert set(statuses.values()) == {"success"}, statuses

    def _statuses(self, select: list[str], options: dict[str, Any]) -> dict[str, str]:
        runner = DbtRunner(options=self.project.options, secrets=bigquery_secrets(self.settings.bigquery_credentials))
        return {node.unique_id.split(".")[2]: node.status for node in runner.build(select, **options).nodes}

    def merges(self, model: str) -> list[str]:
        """Return the MERGE statements into a model, newest first, as the warehouse ran them."""
        texts = [getattr(job, "query", "") for job in self.client.list_jobs(all_users=True)]
        table = f"`{PROJECT}`.`{self.dataset}`.`{model}`"
        return [text for text in texts if f"merge into {table}" in text]

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        return {model: self.run(f"select * from {{0}}.{model} order by id") for model in MODELS}


@pytest.fixture
def course(bigquery_emulator: Emulator, bigquery_dataset: str, tmp_path: Path) -> Iterator[Course]:
    course = Course(bigquery_emulator, bigquery_dataset, tmp_path)
    yield course
    course.client.close()


def _passed(statuses: dict[str, str]) -> bool:
    return len(statuses) == 14 and set(statuses.values()) == {"success", "pass"}


def test_the_first_build_and_its_tests(course: Course) -> None:
    assert _passed(course.build())
    assert course.merges("labeled_projects") == []
    tables = course.tables()
    assert [(row[0], row[4]) for row in tables["labeled_projects"]] == [(1, "mlops"), (2, "other"), (3, "other")]
    assert [row[0] for row in tables["unlabeled_projects"]] == [4, 5]
    table = course.client.get_table(f"{PROJECT}.{course.dataset}.labeled_projects")
    assert table.time_partitioning is not None
    assert (table.time_partitioning.field, table.time_partitioning.type_) == ("created_on", "DAY")
    assert table.clustering_fields == ["id"]
    course.run(CHANGES + "insert into {0}.tags values (6, 'gardening')")
    assert course.build()["labeled_projects_tag_is_accepted"] == "fail"


def test_merges_leave_what_a_full_refresh_would(course: Course) -> None:
    assert _passed(course.build())
    course.run(CHANGES)
    assert _passed(course.build())
    assert course.merges("labeled_projects")
    merged = course.tables()
    assert [(row[0], row[2], row[4]) for row in merged["labeled_projects"]] == [
        (1, "changed", "mlops"),
        (2, "b", "mlops"),
        (5, "e", "computer-vision"),
    ]
    assert [row[0] for row in merged["unlabeled_projects"]] == [3, 6]
    assert _passed(course.build())
    assert course.tables() == merged
    merges = len(course.merges("labeled_projects"))
    assert _passed(course.build(full_refresh=True))
    assert course.tables() == merged
    assert len(course.merges("labeled_projects")) == merges


def _changes(random: Random, number: int) -> str:
    """A few changes of every kind, to rows of any of twelve days and of none."""

    def day() -> str:
        return random.choice([f"timestamp '2024-02-{random.randint(1, 12):02} 23:59:59.999999'"] * 9 + ["null"])

    def one() -> int:
        return random.randint(1, 30)

    kinds = [
        lambda: f"update {{0}}.projects set title = 'edit {number}' where id = {one()}",
        lambda: f"update {{0}}.projects set created_on = {day()} where id = {one()}",
        lambda: f"delete from {{0}}.projects where id = {one()}",
        lambda: f"insert into {{0}}.projects values ({100 * (number + 1) + one()}, {day()}, 'late', 'x')",
        lambda: f"update {{0}}.tags set tag = null where id = {one()}",
        lambda: f"update {{0}}.tags set tag = 'mlops' where id = {one()}",
        lambda: f"delete from {{0}}.tags where id = {one()}",
    ]
    return ";".join(kind() for kind in random.sample(kinds, 3))


def test_random_changes_are_merged_exactly(course: Course) -> None:
    random = Random(3)  # noqa: S311
    course.run("delete from {0}.projects where true; delete from {0}.tags where true")
    course.run(
        "insert into {0}.projects select i, timestamp_add(timestamp '2024-02-01', interval mod(i, 12) day), 'a', 'x' "
        "from unnest(generate_array(1, 30)) as i"
    )
    course.run(
        "insert into {0}.tags select i, if(mod(i, 2) = 0, 'other', null) from unnest(generate_array(1, 28)) as i"
    )
    course.build_models()
    for number in range(ROUNDS):
        course.run(_changes(random, number))
        course.build_models()
        for model, expected in EXPECTED.items():
            assert course.tables()[model] == course.run(expected + " order by id"), (number, model)
    assert len(course.merges("labeled_projects")) == ROUNDS


def test_the_key_is_dbts_alone_and_is_written_nowhere(course: Course) -> None:
    before = dict(os.environ)
    assert _passed(course.build())
    assert dict(os.environ) == before
    assert course.settings.bigquery_credentials is not None
    key = base64.b64decode(course.settings.bigquery_credentials.get_secret_value())
    body = key.split(b"-----")[2].strip(b"\\n")[:40]
    written = [path for path in course.home.rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if body in path.read_bytes()]


@pytest.mark.parametrize("credentials", ["no base64!", base64.b64encode(b"no json").decode(), "AAAA"])
def test_a_key_that_is_none_gives_a_sentence(credentials: str) -> None:
    with pytest.raises(TransformError, match=r"^MLOPS_BIGQUERY_CREDENTIALS is no service-account key") as error:
        bigquery_secrets(SecretStr(credentials))
    assert credentials not in str(error.value)
