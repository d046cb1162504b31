"""`python -m benchmarks.forgetting --splits N`: how often the check `no_forgetting` warns, by chance and with cause.

By chance, first without models: each row of the real slices is answered differently by the two models with a chance
of `--differ`, and then either is the one that is right. Then with models: champion and candidate are fitted on two
random parts of the same rows, so that neither has forgotten anything, and judged on rows that neither has seen.
With cause: the candidate never saw one tag or one period, or is the champion with wrong answers on a part of a slice.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import REAL_DATA
from mlops_platform.checks.model import FORGETTING_ALPHA
from mlops_platform.ml import model as models
from mlops_platform.ml.periods import LEAST_ROWS, SliceComparison, compare_slices, forgotten, quarters, sign_test
from mlops_platform.replay.history import Row, read_history
from mlops_platform.settings import SAMPLE_DIR

TEST_SHARES = (0.1, 0.35)
LEARNT = 0.8  # share of the training rows that either model gets
WRONG = (0.2, 0.5)  # share of a slice that the spoilt champion answers wrongly


def warns(rows: Sequence[Row], ours: Sequence[str], theirs: Sequence[str]) -> list[str]:
    """Names of the slices that the check would warn of."""
    truth = [row.tag for row in rows]
    by_period = compare_slices(quarters([row.created_on for row in rows]), truth, ours, theirs)
    return [
        each.name for each in forgotten([*by_period, *compare_slices(truth, truth, ours, theirs)], FORGETTING_ALPHA)
    ]


def by_coin(rows: Sequence[Row], differ: float, draws: int) -> list[bool]:
    """Whether the check warns, draw by draw, of two models that are as good and differ on some rows."""
    slices = [np.array(of) == name for of in _slices(rows).values() for name in sorted(set(of))]
    draw, found = np.random.default_rng(0), []
    for _ in range(draws):
        differs, lost = draw.random(len(rows)) < differ, draw.random(len(rows)) < 0.5
        counts = [(int((each & differs & lost).sum()), int((each & differs & ~lost).sum())) for each in slices]
        compared = [SliceComparison("", 0, 0.0, 0.0, *each, sign_test(*each)) for each in counts]
        found.append(bool(forgotten(compared, FORGETTING_ALPHA)))
    return found


def _predictions(train: Sequence[Row], test: Sequence[Row]) -> list[str]:
    """What a model says that is fitted on some rows; calibration is left out, as it never changes which tag leads."""
    features = models.build_pipeline(models.DEFAULT).named_steps["features"]
    known, asked = (
        models.frame([row.title for row in rows], [row.description for row in rows]) for rows in (train, test)
    )
    classifier = models.build_classifier(models.DEFAULT)
    classifier.fit(features.fit_transform(known), np.array([row.tag for row in train]))
    return [str(tag) for tag in classifier.predict(features.transform(asked))]


def _spoilt(rows: Sequence[Row], slices: Sequence[str], name: str, share: float, answers: Sequence[str]) -> list[str]:
    """The answers, of which the first right ones in a slice, as many as `share` of its rows, are wrong."""
    left, spoilt = round(share * slices.count(name)), list(answers)
    for place, row in enumerate(rows):
        if left and slices[place] == name and answers[place] == row.tag:
            spoilt[place], left = "wrong", left - 1
    return spoilt


def _slices(rows: Sequence[Row]) -> dict[str, list[str]]:
    return {"tag": [row.tag for row in rows], "period": quarters([row.created_on for row in rows])}


def _unseen(
    learnt: Sequence[Row], test: Sequence[Row], draw: np.random.Generator
) -> dict[str, tuple[list[str], str | None]]:
    """What models say that never saw one tag or one period of the test rows, and the name of the tag."""
    of = _slices(test)
    tag = str(draw.choice(sorted(set(of["tag"]))))
    period = str(draw.choice(sorted(set(of["period"]))))
    times = [row.created_on for row, name in zip(test, of["period"], strict=True) if name == period and row.created_on]
    rest = [row for row in learnt if row.created_on is None or not min(times) <= row.created_on <= max(times)]
    return {
        "never saw one tag": (_predictions([row for row in learnt if row.tag != tag], test), tag),
        "never saw one period": (_predictions(rest, test), None),
    }


def by_models(history: Sequence[Row], splits: int, faulty: int) -> dict[tuple[float, str], list[bool]]:
    """Whether the check warns, by share of test rows and case, split by split; of the first splits with faults too.

    A fault counts as found only if the slice that it hit is named (a period that was never seen: if any slice is).
    """
    found: dict[tuple[float, str], list[bool]] = defaultdict(list)
    for split in range(splits):
        draw = np.random.default_rng(9000 + split)
        rows = [history[i] for i in draw.permutation(len(history))]
        cut = round(max(TEST_SHARES) * len(rows))
        test, train = rows[:cut], rows[cut:]
        learnt, other = ([train[i] for i in draw.permutation(len(train))[: round(LEARNT * len(train))]] for _ in "ab")
        theirs, ours = _predictions(learnt, test), _predictions(other, test)
        unseen = _unseen(other, test, draw) if split < faulty else {}
        for share in TEST_SHARES:
            size = round(share * len(rows))
            judged, old = test[:size], theirs[:size]
            found[share, "nothing"].append(bool(warns(judged, ours[:size], old)))
            for fault, (answers, hit) in unseen.items():
                # a period that is short of rows in the smaller split bears the name of those that it is joined with
                named = warns(judged, answers[:size], old)
                found[share, fault].append(hit in named if hit else bool(named))
            if split < faulty:
                for kind, of in _slices(judged).items():
                    hit = str(draw.choice(sorted({name for name in of if of.count(name) >= LEAST_ROWS})))
                    for part in WRONG:
                        named = warns(judged, _spoilt(judged, of, hit, part, old), old)
                        found[share, f"{part:.0%} of a {kind} answered wrongly"].append(hit in named)
        print(".", end="", flush=True, file=sys.stderr)
    return found


def _rate(warned: Sequence[bool]) -> str:
    rate = float(np.mean(warned))
    return f"{rate:.3f} ± {np.sqrt(rate * (1 - rate) / len(warned)):.3f} of {len(warned)}"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forgetting", description=__doc__)
    parser.add_argument("--draws", type=int, default=2000, help="draws without models")
    parser.add_argument(
        "--differ", type=float, nargs="+", default=[0.1, 0.3], help="chance that a row tells them apart"
    )
    parser.add_argument("--splits", type=int, default=200, help="pairs of models")
    parser.add_argument("--faulty", type=int, default=50, help="of these, how many are tried with faults too")
    parser.add_argument("--data", type=Path, nargs="+", default=[REAL_DATA, SAMPLE_DIR])
    options = parser.parse_args()
    print(f"| data | test rows | what was forgotten | warns at {FORGETTING_ALPHA} (± standard error) |")
    print("|---|---|---|---|")
    for folder in options.data:
        history = read_history(str(folder / "projects.csv"), str(folder / "tags.csv")).rows
        for share in TEST_SHARES:
            order = np.random.default_rng(0).permutation(len(history))
            rows = [history[i] for i in order[: round(share * len(history))]]
            for differ in options.differ:
                told = _rate(by_coin(rows, differ, options.draws))
                print(f"| {folder.name} | {len(rows)} | nothing, a coin on {differ:.0%} of rows | {told} |", flush=True)
        found = by_models(history, options.splits, options.faulty)
        for (share, case), warned in sorted(found.items(), key=lambda each: each[0][0]):
            size = round(share * len(history))
            print(f"| {folder.name} | {size} | {case} | {_rate(warned)} |", flush=True)


if __name__ == "__main__":
    main()
