"""Dealing a history and spoiling it: what comes when, and what is wrong with it."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mlops_platform.errors import PlatformError, SourceError
from mlops_platform.replay.fault_injection import World, deal
from mlops_platform.replay.history import Row, read_history
from mlops_platform.replay.scenario import Fault, Scenario
from mlops_platform_tests.ml.corpus import made_up

START = dt.datetime(2024, 1, 1)
TEXTS, TAGS = made_up(400, seed=3)
ROWS = [Row(i, START + dt.timedelta(hours=8 * i), f"title {i}", text, TAGS[i]) for i, text in enumerate(TEXTS)]


def dealt(*faults: dict[str, Any], seed: int = 0, **more: Any) -> World:
    plan = Scenario(**{"rows_per_week": 20, "pool_share": 0.2, **more})
    return deal(ROWS, plan, [Fault(**each) for each in faults], seed)


def test_every_row_comes_once_and_the_same_seed_deals_the_same() -> None:
    world = dealt()
    ids = [row.id for part in (world.first, world.pool, *world.weeks) for row in part]
    assert len(ids) == len(set(ids))
    assert len(world.pool) == 80
    assert {len(week) for week in world.weeks} == {20}
    assert [row.id for row in dealt().first] == [row.id for row in world.first]
    assert [row.id for row in dealt(seed=1).first] != [row.id for row in world.first]


def test_weeks_are_cut_by_the_calendar() -> None:
    world = dealt(order="time", rows_per_week=None, pool_share=0.0)
    assert {len(week) for week in world.weeks[:-1]} == {21}
    times = [row.created_on for part in (world.first, *world.weeks) for row in part if row.created_on]
    assert times == sorted(times)


def test_a_new_topic_is_new() -> None:
    world = dealt({"kind": "new_topic", "week": 2, "share": 0.5, "tag": "kitchen"})
    assert "kitchen" not in {row.tag for row in [*world.first, *world.weeks[0], *world.pool_in(1)]}
    assert Counter(row.tag for row in world.weeks[1])["kitchen"] == 10
    assert "kitchen" in {row.tag for row in world.pool_in(2)}


def test_a_topic_of_given_texts() -> None:
    texts = [f"sonnet {i}" for i in range(60)]
    world = dealt({"kind": "new_topic", "week": 2, "share": 0.4, "tag": "poems", "texts": texts})
    assert Counter(row.tag for row in world.weeks[1])["poems"] == 8
    assert Counter(row.tag for row in world.pool)["poems"] == 12


def test_a_class_shift_and_its_end() -> None:
    world = dealt({"kind": "class_shift", "week": 2, "until": 3, "share": 0.8, "tag": "weather"})
    shares = [Counter(row.tag for row in week)["weather"] for week in world.weeks]
    assert shares[1] == shares[2] == 16
    assert shares[0] < 14
    assert shares[3] < 14


def test_a_null_column_until_it_is_mended() -> None:
    world = dealt({"kind": "null_column", "week": 2, "share": 0.5, "column": "title"})

    def empty(rows: list[Row]) -> int:
        return sum(world.observed(row).title is None for row in rows)

    assert empty(world.weeks[0]) == 0
    assert 4 <= empty(world.weeks[1]) <= 16
    assert not any(row.title is None for row in world.pool_in(1))
    assert any(row.title is None for row in world.pool_in(2))
    world.repaired.add("null_column")
    assert empty(world.weeks[1]) == 0
    assert not any(row.title is None for row in world.pool_in(3))


def test_flipped_labels_until_they_are_mended() -> None:
    world = dealt({"kind": "label_flips", "week": 2, "share": 1.0})
    assert all(world.label(row) == row.tag for row in [*world.first, *world.weeks[0]])
    assert all(world.label(row) != row.tag for row in world.weeks[1])
    world.repaired.add("label_flips")
    assert all(world.label(row) == row.tag for row in world.weeks[1])


@pytest.mark.parametrize(
    ("faults", "more", "said"),
    [
        ([{"kind": "new_topic", "tag": "opera"}], {}, "No row has the tag 'opera'.*animals, kitchen, weather"),
        ([{"kind": "null_column", "week": 40}], {}, "has rows for 9 weeks.*needs week 43"),
        ([], {"rows_per_week": 1000}, "rows for 0 weeks"),
        ([], {"train_rows": 10}, "Only 10 rows with"),
    ],
)
def test_what_a_history_cannot_hold_is_said(faults: list[dict[str, Any]], more: dict[str, Any], said: str) -> None:
    with pytest.raises(PlatformError, match=said):
        dealt(*faults, **more)


def _files(folder: Path, projects: str, tags: str) -> tuple[str, str]:
    (folder / "p.csv").write_text(projects)
    (folder / "t.csv").write_text(tags)
    return str(folder / "p.csv"), str(folder / "t.csv")


def test_reading_a_pair(tmp_path: Path) -> None:
    pair = _files(
        tmp_path,
        "id,created_on,title,description\n2,2024-01-02,b,\n1,2024-01-03,a,x\n3,,c,y\n4,2024-01-01,d,z\nfive,,e,e\n",
        "id,tag\n1,red\n2,blue\n3,red\n",
    )
    history = read_history(*pair)
    assert [(row.id, row.tag) for row in history.rows] == [(2, "blue"), (1, "red"), (3, "red")]
    assert (history.unlabeled, history.rejected) == (1, 1)


@pytest.mark.parametrize(
    ("projects", "tags", "said"),
    [
        ("id,title\n1,a\n", "id,tag\n1,x\n", "created_on"),
        ("id,created_on,title,description\n1,,a,b\n", "id\n1\n", "tag"),
        ("id,created_on,title,description\n1,,a,b\n", "id,tag\n2,x\n", "needs labeled rows"),
    ],
)
def test_a_pair_that_is_no_history_is_refused(tmp_path: Path, projects: str, tags: str, said: str) -> None:
    with pytest.raises(SourceError, match=said):
        read_history(*_files(tmp_path, projects, tags))
