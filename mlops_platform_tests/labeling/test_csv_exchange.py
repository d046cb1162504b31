"""The queue as a CSV file and its labels back, by the command as it is typed."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from mlops_platform.resources.labels.label_log import Label, append, now
from mlops_platform_tests.conftest import run_mlops
from mlops_platform_tests.labeling.home import BIG_ID, CV, MLOPS, NLP, OTHER, ROWS, LabelHome


class Sheets:
    """`mlops label --export` and `--import` on a home."""

    def __init__(self, home: LabelHome, folder: Path) -> None:
        self.home, self.file = home, folder / "to label.csv"

    def take(self, content: str | None = None, *arguments: str) -> str:
        """Import; returns what was printed."""
        if content is not None:
            self.file.write_text(content, encoding="utf-8")
        answer = run_mlops(self.home.settings.home, "label", "--import", str(self.file), *arguments)
        assert answer.returncode == (1 if answer.stderr else 0), answer.stderr
        return answer.stdout + answer.stderr


@pytest.fixture
def sheets(home: LabelHome, tmp_path: Path) -> Sheets:
    return Sheets(home, tmp_path)


def test_a_file_goes_out_is_filled_in_and_comes_back_once(sheets: Sheets) -> None:
    answer = run_mlops(sheets.home.settings.home, "label", "--export", str(sheets.file))
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith(f"{len(ROWS)} projects in {sheets.file}: fill in the column tag")
    with sheets.file.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["tag"]) for row in rows] == [(str(row[0]), "") for row in ROWS]
    assert [row["title"] for row in rows] == [row[1] for row in ROWS]
    assert rows[3]["description"] == "'=1+1"  # no formula
    assert (rows[0]["guess"], rows[0]["probability"], rows[4]["given"]) == (MLOPS, "0.61", NLP)
    assert rows[0]["neighbours"] == f"Neighbour 0 [{CV}]; Neighbour 1 [{NLP}]"
    assert sheets.take().startswith("0 labels imported")  # nothing is filled in
    for row, tag in zip(rows, (CV, MLOPS), strict=False):
        row["tag"] = tag
    rows[-1]["tag"] = OTHER
    with sheets.file.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert sheets.take(None, "--as", "ann").startswith("3 labels imported, 0 were imported before.")
    assert sheets.home.labels() == [(11, CV, "ann"), (12, MLOPS, "ann"), (BIG_ID, OTHER, "ann")]
    ways = [each.source.rpartition("-")[0] for each in sheets.home.entries()]
    assert ways == ["import", "import-random", "import-random"]
    assert sheets.take(None, "--as", "ann").startswith("0 labels imported, 3 were imported before.")
    # what the person has changed since is not changed back by the same file
    append(sheets.home.log, [Label(11, "", now(), "ann", "page-undo")])
    assert sheets.take(None, "--as", "ann").startswith("0 labels imported")
    assert len(sheets.home.labels()) == 4


def test_people_and_times_are_taken_and_conflicts_told(sheets: Sheets) -> None:
    append(sheets.home.log, [Label(11, NLP, now(), "ann", "page")])
    content = (
        "tag;,id,labeled_by,labeled_at,note\n"
        f",11,bob,2026-03-01T12:00:00+01:00,{CV}\n"
        f",11,ann,,{NLP}\n"
        f",12,bob,2026-03-01 10:00,{OTHER}\n"
    ).replace("tag;,id,labeled_by,labeled_at,note", "nothing,id,labeled_by,labeled_at,tag")
    told = sheets.take(content)
    assert told.startswith("2 labels imported, 1 were imported before. People disagree on 1 of these projects.")
    assert [(each.id, each.labeled_by, each.labeled_at) for each in sheets.home.entries()[1:]] == [
        (11, "bob", "2026-03-01T11:00:00.000000+00:00"),
        (12, "bob", "2026-03-01T10:00:00.000000+00:00"),
    ]
    # another file that says the same: by the time it is known
    assert sheets.take(content + "99,,,,\n").startswith("0 labels imported, 3 were imported before.")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ("12,gardening\n", "line 3: 'gardening' is none of the tags natural-language-processing"),
        ("77,mlops\n", "line 3: there is no project 77"),
        ("x,mlops\n", "line 3: 'x' is not an id"),
        ("11,other\n", "line 3: project 11 has another tag in line 2"),
        ("99999999999999999999,mlops\n", "line 3: there is no project"),
        ('12,"mlops\n', "line 3"),
    ],
)
def test_one_bad_line_and_nothing_is_taken(sheets: Sheets, rows: str, says: str) -> None:
    told = sheets.take("id,tag\n11,mlops\n" + rows + "13,mlops\n")
    assert told.startswith("mlops: ")
    assert says in told
    assert sheets.home.labels() == []


def test_lines_are_counted_as_an_editor_counts_them(sheets: Sheets) -> None:
    told = sheets.take('id,tag,title\n11,mlops,"two\nlines"\n77,mlops,x\n88,mlops,x\n')
    assert "line 4: there is no project 77; line 5: there is no project 88" in told


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("id;tag\n11;mlops\n", "is separated by semicolons"),
        ("id,label\n11,mlops\n", "tag"),
        ("id,tag,labeled_at\n11,mlops,yesterday\n", "line 2: 'yesterday' is not a time such as"),
        ("id,tag,labeled_at\n11,mlops,2999-01-01\n", "line 2: 2999-01-01 is in the future"),
        ("", "is empty"),
    ],
)
def test_what_is_no_such_file_is_a_sentence(sheets: Sheets, content: str, says: str) -> None:
    assert says in sheets.take(content)
    assert not sheets.home.log.exists()


def test_the_command_line_takes_one_way(sheets: Sheets) -> None:
    answer = run_mlops(sheets.home.settings.home, "label", "--import", "a.csv", "--export", "b.csv")
    assert answer.returncode == 2
    assert "give either --export or --import" in answer.stderr
