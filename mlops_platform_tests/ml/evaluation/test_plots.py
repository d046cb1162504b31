"""Pictures: they are drawn, small, and the same for the same figures."""

from __future__ import annotations

import base64
import io
import sys
from collections.abc import Callable
from datetime import datetime

import numpy as np
import pytest
from PIL import Image

from mlops_platform.ml.classifier.text_classifier import DEFAULT
from mlops_platform.ml.evaluation import plots
from mlops_platform.ml.evaluation.metrics import Evaluation, evaluate
from mlops_platform.ml.tuning.search import TrialRecord


def evaluation(classes: int, rows: int = 200) -> Evaluation:
    names = [f"natural-language-processing-{k}" for k in range(classes)]
    draw = np.random.default_rng(0)
    proba = draw.dirichlet(np.full(classes, 0.3), rows)
    return evaluate(draw.choice(names, rows).tolist(), proba, names, ["some text"] * rows)


def record(number: int, score: float, *, pruned: bool = False, source: str = "sampled") -> TrialRecord:
    return TrialRecord(number, score, pruned, source, DEFAULT, [score], 0.1)


HISTORY = [record(0, 0.88, source="previous_best"), record(1, 0.87, source="default")] + [
    record(k, 0.86 + 0.001 * k, pruned=k % 3 == 0) for k in range(2, 25)
]
COUNTS = [(datetime(2020 + m // 12, m % 12 + 1, 5), tag, m + 1) for m in range(30) for tag in ("nlp", "cv")]

DRAWINGS: dict[str, Callable[[], bytes]] = {
    "confusion": lambda: plots.confusion_matrix_png(evaluation(4)),
    "confusion, many classes": lambda: plots.confusion_matrix_png(evaluation(9)),
    "per class": lambda: plots.per_class_bars_png(evaluation(4)),
    "calibration": lambda: plots.calibration_png(evaluation(4)),
    "calibration, one row": lambda: plots.calibration_png(evaluation(2, rows=1)),
    "history": lambda: plots.tuning_history_png(HISTORY),
    "history, one trial": lambda: plots.tuning_history_png(HISTORY[:1]),
    "history, no trial": lambda: plots.tuning_history_png([]),
    "balance by quarter": lambda: plots.class_balance_png(COUNTS),
    "balance by month": lambda: plots.class_balance_png(COUNTS[:12]),
    "balance, one row": lambda: plots.class_balance_png([(datetime(2020, 5, 1), "nlp", 1)]),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DRAWINGS)
def test_draws_a_small_picture_with_something_on_it(name: str) -> None:
    png = DRAWINGS[name]()
    assert len(png) < 40_000
    picture = Image.open(io.BytesIO(png))
    assert picture.format == "PNG"
    assert min(picture.size) >= 300
    assert len(picture.convert("RGB").getcolors(100_000) or ()) > 5


def test_same_figures_give_the_same_bytes() -> None:
    assert plots.confusion_matrix_png(evaluation(4)) == plots.confusion_matrix_png(evaluation(4))
    assert plots.confusion_matrix_png(evaluation(4)) != plots.confusion_matrix_png(evaluation(4, rows=201))


def test_touches_no_global_state_of_matplotlib() -> None:
    loaded = "matplotlib.pyplot" in sys.modules
    plots.calibration_png(evaluation(3))
    assert ("matplotlib.pyplot" in sys.modules) == loaded


def test_class_balance_needs_rows() -> None:
    with pytest.raises(ValueError, match="no rows"):
        plots.class_balance_png([])


def test_embed_round_trips() -> None:
    text = plots.embed(b"\x89PNG\r\n", alt="history")
    head, _, data = text.partition("base64,")
    assert head == "![history](data:image/png;"
    assert base64.b64decode(data.removesuffix(")")) == b"\x89PNG\r\n"
