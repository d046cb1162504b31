"""Resolution of the labels that people and sources gave a row to one label, by majority vote.

Reading and writing label tables belongs elsewhere. No label is dropped silently: disagreement is a conflict.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

COLUMNS = ("id", "tag", "labeled_at", "labeled_by", "source")


@dataclass(frozen=True)
class Resolution:
    """Resolved labels.

    Attributes:
        labels: One row per labeled id, sorted by id: id, tag, labeled_at (the latest vote for this tag), votes (voters
            for the tag), voters (all voters), conflict (whether they disagree).
        conflicts: The valid votes of ids on which voters disagree, sorted by id: id, tag, labeled_at, labeled_by,
            source, and whether the vote `won`.
        undone: Sorted ids whose labels were all withdrawn.
    """

    labels: pd.DataFrame
    conflicts: pd.DataFrame
    undone: list[int]

    @property
    def conflict_count(self) -> int:
        """Number of ids on which voters disagree."""
        return int(self.labels["conflict"].sum())


def resolve(labels: pd.DataFrame) -> Resolution:
    """Resolve labels to one per id.

    The latest label of each person counts; without a tag it withdraws the person's vote. Labels without a person (the
    tags source) are one vote per source. The tag with most votes wins; ties go to the latest vote, then to the first
    tag by name. A missing time counts as the earliest, so a person's vote overrides the tags source. The order of the
    rows does not matter.

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
    # of a label and its withdrawal at the same time, the label counts
    votes = votes.sort_values(["labeled_at", "tag", "source"], na_position="first", ignore_index=True)
    latest = votes.drop_duplicates(["id", "voter"], keep="last")
    valid = latest[latest["tag"].notna()]

    tally = valid.groupby(["id", "tag"], as_index=False).agg(votes=("voter", "size"), labeled_at=("labeled_at", "max"))
    # missing times sort last
    tally = tally.sort_values(
        ["id", "votes", "labeled_at", "tag"], ascending=[True, False, False, True], na_position="last"
    )
    winners = tally.drop_duplicates("id", keep="first").set_index("id")
    winners["voters"] = valid.groupby("id").size().reindex(winners.index).astype("int64")
    winners["conflict"] = winners["votes"] < winners["voters"]
    resolved = winners.reset_index()[["id", "tag", "labeled_at", "votes", "voters", "conflict"]]

    disputed = valid[valid["id"].isin(winners.index[winners["conflict"]])]
    conflicts = disputed.assign(won=disputed["tag"] == disputed["id"].map(winners["tag"]))
    conflicts = conflicts.sort_values(["id", "voter"], ignore_index=True)[[*COLUMNS, "won"]]
    undone = sorted(set(votes["id"].tolist()) - set(winners.index.tolist()))
    return Resolution(resolved, conflicts, undone)


def _times(column: pd.Series) -> pd.Series:
    try:
        # in pandas 2.3, format="ISO8601" reads a time without a zone in the zone of the preceding one
        return pd.to_datetime(column, utc=True, format="mixed")
    except ValueError as error:
        raise ValueError(f"A labeled_at is not a time such as 2026-01-31T12:00:00Z: {error}") from error


def _text(column: pd.Series) -> pd.Series:
    """Strip a column of texts and make empty ones missing."""
    trimmed = column.astype("string").str.strip()
    return trimmed.mask(trimmed == "").astype(object).where(lambda text: text.notna(), None)
