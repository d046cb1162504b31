"""The rows that the benchmarks are made of."""

from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from benchmarks import generate


def together(rows: int, **how: int) -> generate.Batch:
    made = list(generate.batches(rows, **how))
    return generate.Batch(pa.concat_tables(b.projects for b in made), pa.concat_tables(b.tags for b in made))


def test_a_small_table_is_the_start_of_a_large_one() -> None:
    small, large = together(300, per_day=10), together(generate.BLOCK + 100, per_day=10)
    assert small.projects.num_rows == 300
    assert large.projects.num_rows == generate.BLOCK + 100
    assert small.projects.equals(large.projects.slice(0, 300))
    assert small.tags.equals(large.tags.slice(0, small.tags.num_rows))


def test_rows_that_are_added_are_those_of_the_whole() -> None:
    whole = together(generate.BLOCK + 100, per_day=10)
    first, rest = together(200, per_day=10), together(generate.BLOCK - 100, start=200, per_day=10)
    assert pa.concat_tables([first.projects, rest.projects]).equals(whole.projects)
    assert pa.concat_tables([first.tags, rest.tags]).equals(whole.tags)


def test_another_seed_gives_other_rows() -> None:
    assert together(50, seed=1).projects.equals(together(50, seed=1).projects)
    assert not together(50, seed=1).projects.equals(together(50, seed=2).projects)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_files_hold_what_the_suites_ask_for(tmp_path: Path, form: str) -> None:
    rows = 20_000
    projects, tags = generate.write(tmp_path / "new", rows, form=form)  # type: ignore[arg-type]
    with duckdb.connect() as connection:
        found = connection.execute(
            f"select count(*), count(distinct id), count(distinct (title, description)), min(created_on) is not null, "
            f"count(distinct created_on::date) from '{projects}'"
        ).fetchone()
        assert found == (rows, rows, rows, True, 1000)
        shares = dict(
            connection.execute(
                f"select tag, count(*) / {rows} from '{tags}' semi join '{projects}' using (id) group by 1"
            ).fetchall()
        )
    assert set(shares) == set(generate.TAGS)
    assert sum(shares.values()) == pytest.approx(1 - generate.UNLABELED, abs=0.01)
