"""The workloads of `training_scale`, each run in a subprocess: `python -m benchmarks.training_work WHAT FOLDER ...`.

`prepare` generates the rows; `ours` materializes the graph's trained_model on them; `by_hand` is the script that a user
would write; `in_memory` fits the model of smaller data; `evaluate` prints weighted F1 and calibration error on
unseen rows.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

VERSION = "generated"
UNSEEN_ROWS = 20_000
TEST_SHARE = 0.1
CHUNK_ROWS = 10_000


def prepare(folder: Path, rows: str) -> None:
    """Write a snapshot of about so many labeled rows, its train split as CSV, and unseen rows."""
    import duckdb

    from benchmarks import generate
    from mlops_platform.assets.dataset import STREAMED
    from mlops_platform.ml.classifier import text_classifier
    from mlops_platform.resources.warehouse.split_sql import split_sql
    from mlops_platform.settings import Settings

    many = int(rows)
    settings = Settings(home=folder)
    settings.datasets_dir.mkdir(parents=True)
    settings.values_dir.mkdir()
    snapshot = settings.datasets_dir / f"{VERSION}.parquet"
    files = generate.write(folder / "rows", many, form="parquet")
    # with distant ids, so that they stay unseen for any number of training rows
    unseen = generate.write(folder / "unseen", UNSEEN_ROWS, form="parquet", start=10**8)
    with duckdb.connect() as connection:
        connection.execute("set memory_limit = '2GB'")
        connection.execute(
            f"copy (select id, created_on, title, description, tag, {split_sql('id', TEST_SHARE)} as split "  # noqa: S608
            f"from '{files[0]}' join '{files[1]}' using (id) order by md5(id::varchar), id) "
            f"to '{snapshot}' (format parquet, compression zstd)"
        )
        connection.execute(
            f"copy (select title, description, tag from '{snapshot}' where split = 'train') "  # noqa: S608
            f"to '{folder / 'train.csv'}' (header)"
        )
        connection.execute(
            f"copy (select title, description, tag from '{unseen[0]}' join '{unseen[1]}' using (id)) "  # noqa: S608
            f"to '{folder / 'unseen.parquet'}' (format parquet)"
        )
        counted = connection.execute(f"select split, count(*) from '{snapshot}' group by all").fetchall()  # noqa: S608
    for path in files:
        path.unlink()
    of = dict(counted)
    value = {"version": VERSION, "rows": sum(of.values()), "train_rows": of["train"], "test_rows": of["test"]}
    for name, content in (
        ("validated_dataset", {**value, STREAMED: True}),
        ("tuned_params", {"params": text_classifier.DEFAULT.to_dict(), "score": 0.0, "dataset_version": VERSION}),
    ):
        (settings.values_dir / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")


def ours(folder: Path) -> None:
    """Materialize trained_model, as a step of a run does: code location, snapshot, registry and all."""
    import dagster as dg

    from mlops_platform.build import build_definitions
    from mlops_platform.settings import Settings

    job = build_definitions(Settings(home=folder)).get_repository_def().get_job("mlops")
    with dg.DagsterInstance.ephemeral() as instance:
        job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("trained_model")])


def by_hand(folder: Path) -> None:
    """What a user would write instead: pandas chunks, hashing, one epoch of SGD; not calibrated, not registered."""
    import pandas as pd
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.linear_model import SGDClassifier

    from benchmarks.generate import TAGS

    hashing, classifier = HashingVectorizer(), SGDClassifier(loss="log_loss", random_state=0)
    for chunk in pd.read_csv(folder / "train.csv", chunksize=CHUNK_ROWS):
        classifier.partial_fit(hashing.transform(_texts(chunk)), chunk["tag"], classes=sorted(TAGS))
    (folder / "by_hand.pickle").write_bytes(pickle.dumps((hashing, classifier)))


def in_memory(folder: Path) -> None:
    """The model that the platform fits below the row count, with its default parameters."""
    import pandas as pd

    from mlops_platform.ml.classifier import text_classifier

    train = pd.read_csv(folder / "train.csv")
    fitted = text_classifier.fit(text_classifier.frame(train["title"], train["description"]), train["tag"].tolist())
    (folder / "in_memory.pickle").write_bytes(pickle.dumps(fitted))


def evaluate(folder: Path, which: str) -> None:
    """Print weighted F1 and expected calibration error of a model in the folder on the unseen rows."""
    import pandas as pd

    from mlops_platform.ml.classifier import text_classifier
    from mlops_platform.ml.evaluation import metrics
    from mlops_platform.resources.factory import build_resources
    from mlops_platform.settings import Settings

    rows = pd.read_parquet(folder / "unseen.parquet")
    if which == "by_hand":
        hashing, model = pickle.loads((folder / "by_hand.pickle").read_bytes())  # noqa: S301 - our own
        probabilities = model.predict_proba(hashing.transform(_texts(rows)))
    else:
        tracking = build_resources(Settings(home=folder))["tracking"]
        stored = folder / "in_memory.pickle"
        model = tracking.load("1") if which == "ours" else pickle.loads(stored.read_bytes())  # noqa: S301 - our own
        probabilities = model.predict_proba(text_classifier.frame(rows["title"], rows["description"]))
    classes, truth = [str(name) for name in model.classes_], rows["tag"].tolist()
    f1 = metrics.weighted_f1(truth, [classes[best] for best in probabilities.argmax(axis=1)])
    print(json.dumps({"f1": f1, "ece": metrics.expected_calibration_error(truth, probabilities, classes)}))


def _texts(rows: Any) -> Any:
    return rows["title"].fillna("") + " " + rows["description"].fillna("")


if __name__ == "__main__":
    workloads: dict[str, Callable[..., None]] = {
        work.__name__: work for work in (prepare, ours, by_hand, in_memory, evaluate)
    }
    workloads[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
