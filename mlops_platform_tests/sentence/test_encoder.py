"""The encoder: it computes what sentence-transformers does, one text at a time, without torch."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import skops.io

from mlops_platform.assets.sentence_encoder import export_encoders
from mlops_platform.ml.classifier.text_classifier import (
    SENTENCE_DEFAULT,
    SENTENCE_TYPES,
    TEXT,
    TRUSTED_TYPES,
    Params,
    encoder_of,
    fit,
)
from mlops_platform.ml.embeddings.encoder import Encoder, SentenceVectors, Vectors
from mlops_platform.ml.tuning.cross_validation import cross_validate, stratified_folds
from mlops_platform.ml.tuning.encoder_precision import choose_precision
from mlops_platform_tests.ml.corpus import made_up, real
from mlops_platform_tests.sentence.conftest import encoder_store, package_folder, write_small
from mlops_platform_tests.training_graph import TrainingHome

TEXTS = [
    "Detecting defects in steel sheets with a small convolutional network.",
    "東京 🤗 naïve café",
    "word " * 400,  # longer than what is read
]
# the first numbers of what sentence-transformers 6.2.0 gave for these texts, with torch 2.13.0
GOLDEN = [
    [-0.11404, 0.02288, 0.0856, 0.04519, 0.01834, -0.01154, -0.00944, 0.00563],
    [0.07384, 0.03245, 0.0529, -0.00551, -0.03189, 0.01145, 0.09269, -0.06183],
    [-0.00812, -0.09559, -0.03867, 0.04966, -0.04379, 0.02372, -0.01814, -0.02021],
]

ANIMALS = [
    "cat",
    "dog",
    "horse",
    "cow",
    "sheep",
    "goat",
    "wolf",
    "fox",
    "bear",
    "lion",
    "tiger",
    "mouse",
    "rabbit",
    "otter",
]
VEHICLES = [
    "car",
    "van",
    "lorry",
    "bus",
    "tram",
    "train",
    "ship",
    "boat",
    "ferry",
    "plane",
    "jet",
    "glider",
    "truck",
    "raft",
]


class Kept:
    """A cache in memory that counts."""

    def __init__(self) -> None:
        self.vectors: dict[bytes, Vectors] = {}
        self.written = 0

    def read(self, encoder: str, size: int, keys: Sequence[bytes]) -> dict[bytes, Vectors]:  # noqa: ARG002
        return {key: self.vectors[key] for key in keys if key in self.vectors}

    def write(self, encoder: str, vectors: Mapping[bytes, Vectors]) -> None:  # noqa: ARG002
        self.vectors |= vectors
        self.written += len(vectors)


@pytest.fixture(scope="module")
def both(real_home: TrainingHome) -> tuple[Encoder, Encoder]:
    """The exact and the small encoder of the real weights, which know no cache."""
    exact, quantized = export_encoders(encoder_store(real_home.settings.encoders_dir))
    exact.cache = quantized.cache = None
    return exact, quantized


def test_the_vectors_are_those_of_sentence_transformers(both: tuple[Encoder, Encoder]) -> None:
    exact, small = (each.encode(TEXTS) for each in both)
    np.testing.assert_allclose(exact[:, :8], GOLDEN, atol=1e-4)  # half precision
    # measured on a processor with AVX2 only: 0.99, 0.99 and 0.95
    assert ((exact * small).sum(axis=1) > 0.93).all()
    np.testing.assert_allclose(np.linalg.norm(exact, axis=1), 1, atol=1e-3)


def test_it_is_what_torch_computes(both: tuple[Encoder, Encoder]) -> None:
    from sentence_transformers import SentenceTransformer

    texts, _ = made_up(20)
    expected = SentenceTransformer(str(package_folder()), device="cpu").encode([*texts, *TEXTS])
    np.testing.assert_allclose(both[0].encode([*texts, *TEXTS]), expected, atol=2e-4)


def test_the_neighbours_of_a_text_do_not_change_its_vector(both: tuple[Encoder, Encoder]) -> None:
    for encoder in both:
        alone = np.concatenate([encoder.encode([text]) for text in TEXTS])
        assert encoder.encode([*TEXTS, "x " * 250, *TEXTS])[:3].tobytes() == alone.tobytes()


def test_a_text_without_words_is_nothing_and_odd_ones_are_no_error(both: tuple[Encoder, Encoder]) -> None:
    odd = ["", " \n", "\ud800", "x" * 100_000, "word " * 20_000, "\x00", "'; drop table"]
    for encoder in both:
        vectors = encoder.encode(odd)
        assert not vectors[:2].any()
        assert all(vector.any() for vector in vectors[3:5])
        assert np.isfinite(vectors).all()
        assert encoder.encode([]).shape == (0, 384)


def test_a_text_is_computed_once(both: tuple[Encoder, Encoder]) -> None:
    encoder = copy.copy(both[1])
    encoder.cache = kept = Kept()
    first = encoder.encode([*TEXTS, *TEXTS, ""])
    assert kept.written == 4
    assert encoder.encode([*TEXTS, *TEXTS, ""]).tobytes() == first.tobytes()
    assert kept.written == 4
    both[1].cache = None
    assert both[1].encode(TEXTS).tobytes() == first[:3].tobytes()


def test_threads_share_an_encoder(both: tuple[Encoder, Encoder]) -> None:
    fresh = Encoder(both[1].graph, both[1].tokenizer, 256, "mean")
    answers: list[bytes] = []
    threads = [threading.Thread(target=lambda: answers.append(fresh.encode(TEXTS).tobytes())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [both[1].encode(TEXTS).tobytes()] * 8


def test_the_identity_covers_graph_tokenizer_length_and_pooling(both: tuple[Encoder, Encoder]) -> None:
    exact, small = both
    others = [
        Encoder(small.graph, small.tokenizer, 256, "mean"),
        exact,
        Encoder(small.graph, small.tokenizer + " ", 256, "mean"),
        Encoder(small.graph, small.tokenizer, 128, "mean"),
        Encoder(small.graph, small.tokenizer, 256, "cls"),
    ]
    assert [each.digest == small.digest for each in others] == [True, False, False, False, False]


def test_a_model_is_saved_with_its_encoder_once_and_predicts_the_same(both: tuple[Encoder, Encoder]) -> None:
    texts, labels = made_up(60)
    frame = pd.DataFrame({TEXT: texts})
    both[1].cache = kept = Kept()
    model = fit(frame, labels, SENTENCE_DEFAULT, encoder=both[1])
    both[1].cache = None
    assert kept.written == len(set(texts))
    saved = skops.io.dumps(model)
    assert set(skops.io.get_untrusted_types(data=saved)) == {*TRUSTED_TYPES, *SENTENCE_TYPES}
    assert len(saved) < len(both[1].graph) + 3_000_000
    loaded = skops.io.loads(saved, trusted=[*TRUSTED_TYPES, *SENTENCE_TYPES])
    np.testing.assert_array_equal(loaded.predict_proba(frame), model.predict_proba(frame))
    found = encoder_of(loaded)
    assert found is not None
    assert (found.digest, found.cache) == (both[1].digest, None)
    assert len(repr(loaded)) < 5000


def test_parameters_and_encoder_belong_together(both: tuple[Encoder, Encoder]) -> None:
    texts, labels = made_up(30)
    frame = pd.DataFrame({TEXT: texts})
    with pytest.raises(ValueError, match="weigh sentence vectors and there is no encoder"):
        fit(frame, labels, SENTENCE_DEFAULT)
    with pytest.raises(ValueError, match="do not weigh sentence vectors and there is an encoder"):
        fit(frame, labels, Params(), encoder=both[1])


def test_the_loss_of_f1_decides_which_encoder_is_chosen(both: tuple[Encoder, Encoder], tmp_path: Path) -> None:
    exact, small = both
    texts = [f"{word} {number}" for number, word in enumerate(ANIMALS + VEHICLES)]
    tags = ["animal"] * len(ANIMALS) + ["vehicle"] * len(VEHICLES)
    taken = choose_precision(exact, small, texts, tags)
    assert (taken.name, taken.encoder, taken.rows) == ("int8", small, 28)
    # vectors of random weights in place of the int8 encoder's: one word is like another
    noise, _ = export_encoders(encoder_store(tmp_path / "base", write_small(tmp_path / "model")))
    refused = choose_precision(exact, noise, texts, tags)
    assert (refused.name, refused.encoder) == ("float32", exact)
    assert refused.f1_exact - refused.f1_small >= 0.005
    assert refused.to_dict()["digest"] == exact.digest


def test_on_the_real_data_the_goals_are_met(both: tuple[Encoder, Encoder]) -> None:
    _, texts, tags = real()
    both[1].cache = Kept()
    result = cross_validate(texts, tags, SENTENCE_DEFAULT, repeats=2, seed=42, encoder=both[1])
    both[1].cache = None
    assert result.score >= 0.92
    assert result.ece <= 0.05


def test_features_for_tuning_equal_those_of_the_pipeline(both: tuple[Encoder, Encoder]) -> None:
    from mlops_platform.ml.classifier.text_classifier import build_pipeline
    from mlops_platform.ml.tuning.cross_validation import FoldFeatures

    texts, labels = made_up(40)
    folds = list(stratified_folds(texts, labels, n_splits=3, seed=0))
    params = Params(sentence_weight=0.7, char_weight=1.5)
    computed = FoldFeatures(texts, folds, both[1].encode(texts))
    frame = pd.DataFrame({TEXT: texts})
    pipeline = build_pipeline(params, encoder=both[1]).named_steps["features"]
    train, held_out = folds[0]
    for got, want in zip(
        computed(0, params),
        (pipeline.fit_transform(frame.iloc[train]), pipeline.transform(frame.iloc[held_out])),
        strict=True,
    ):
        np.testing.assert_allclose(got.toarray(), want.toarray(), rtol=1e-6)


def test_the_step_is_one_that_scikit_learn_can_clone(both: tuple[Encoder, Encoder]) -> None:
    from sklearn.base import clone

    step = clone(SentenceVectors(both[1]))
    assert step.encoder is both[1]
    assert step.fit(None).transform(TEXTS[:1]).shape == (1, 384)
