"""One label for each row out of all that people and sources gave it, by rule.

Knows no table: columns in, columns out. A label is never thrown away here; what loses is reported as a conflict.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

COLUMNS = ("id", "tag", "labeled_at", "labeled_by", "source")


@dataclass(frozen=True)
class Resolution:
    """What a set of labels comes to.

    Attributes:
        labels: One row an id that has a label: id, tag, labeled_at (latest of those who gave this tag), votes
            (people and sources for it), voters (all of them), conflict (whether they disagree); by id.
        conflicts: The standing labels of ids on which voters disagree: id, tag, labeled_at, labeled_by, source, and
            whether the label `won`; by id.
        undone: Ids whose every label was taken back, in order.
    """

    labels: pd.DataFrame
    conflicts: pd.DataFrame
    undone: list[int]

    @property
    def conflict_count(self) -> int:
        """How many ids have labels that disagree."""
        return int(self.labels["conflict"].sum())


def resolve(labels: pd.DataFrame) -> Resolution:
    """Resolve labels to one a row.

    Of each person the latest label of an id counts; if that has no tag, the person took theirs back, and has no
    vote. Labels without a person (the tags source) are one vote a source. The tag with most votes wins; of tags
    with as many votes the one that was given last; of those given at the same time the first in the alphabet. A
    missing time counts as before all others, so a person's word stands against that of the tags source. The order
    of the rows does not matter.

    Args:
        labels: Columns id, tag, labeled_at, labeled_by and source; an empty tag counts as none. Times without a
            zone are in UTC.

    Raises:
        ValueError: A column or an id is missing, or a time cannot be read.
    """
    if absent := [name for name in COLUMNS if name not in labels.columns]:
        raise ValueError(f"The labels have no column {', '.join(absent)}; they need {', '.join(COLUMNS)}.")
    if labels["id"].isna().any():
        raise ValueError(f"{int(labels['id'].isna().sum())} labels have no id: say which row each is for.")
    votes = pd.DataFrame(
        {
            "id": labels["id"].astype("int64"),
            "tag": _text(labels["tag"]),
            "labeled_at": _times(labels["labeled_at"]),
            "labeled_by": _text(labels["labeled_by"]),
            "source": _text(labels["source"]),
        }
    )
    # a person and a source of the same name are two voters
    votes["voter"] = ("person " + votes["labeled_by"]).where(
        votes["labeled_by"].notna(), "source " + votes["source"].fillna("")
    )
    # of a label and its undoing at the same instant the label stands
    votes = votes.sort_values(["labeled_at", "tag", "source"], na_position="first", ignore_index=True)
    latest = votes.drop_duplicates(["id", "voter"], keep="last")
    standing = latest[latest["tag"].notna()]

    tally = standing.groupby(["id", "tag"], as_index=False).agg(
        votes=("voter", "size"), labeled_at=("labeled_at", "max")
    )
    # missing times are put last by sorting in descending order, as they must
    tally = tally.sort_values(
        ["id", "votes", "labeled_at", "tag"], ascending=[True, False, False, True], na_position="last"
    )
    won = tally.drop_duplicates("id", keep="first").set_index("id")
    won["voters"] = standing.groupby("id").size().reindex(won.index).astype("int64")
    won["conflict"] = won["votes"] < won["voters"]
    winners = won.reset_index()[["id", "tag", "labeled_at", "votes", "voters", "conflict"]]

    disputed = standing[standing["id"].isin(won.index[won["conflict"]])]
    conflicts = disputed.assign(won=disputed["tag"] == disputed["id"].map(won["tag"]))
    conflicts = conflicts.sort_values(["id", "voter"], ignore_index=True)[[*COLUMNS, "won"]]
    undone = sorted(set(votes["id"].tolist()) - set(won.index.tolist()))
    return Resolution(winners, conflicts, undone)


def _times(column: pd.Series) -> pd.Series:
    try:
        # pandas 2.3's format ISO8601 reads a time without a zone in that of the time before it
        return pd.to_datetime(column, utc=True, format="mixed")
    except ValueError as error:
        raise ValueError(f"A labeled_at is no time, such as 2026-01-31T12:00:00Z: {error}") from error


def _text(column: pd.Series) -> pd.Series:
    """Trim a column of texts; what is then empty is missing."""
    trimmed = column.astype("string").str.strip()
    return trimmed.mask(trimmed == "").astype(object).where(lambda text: text.notna(), None)
