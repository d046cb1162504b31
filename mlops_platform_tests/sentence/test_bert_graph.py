"""The graph: any plain BERT, checked weights; whether its numbers are right is `test_encoder`'s."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlops_platform.ml import bert_graph
from mlops_platform_tests.sentence.conftest import CONFIG, random_weights


def run(graph: bytes, ids: list[int]) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(None, {"ids": np.array(ids, np.int64)})[0]


def _normed(x: Any, weights: dict[str, Any], name: str) -> Any:
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + CONFIG["layer_norm_eps"])
    return centred / scale * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def _linear(x: Any, weights: dict[str, Any], name: str) -> Any:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def by_hand(weights: dict[str, Any], ids: list[int]) -> Any:
    """BERT (Devlin et al. 2019) head by head, in double precision."""
    from scipy.special import erf, softmax

    w = {name: each.astype(np.float64) for name, each in weights.items()}
    table = "embeddings.{}_embeddings.weight".format
    x = w[table("word")][ids] + w[table("position")][: len(ids)] + w[table("token_type")][0]
    x = _normed(x, w, "embeddings.LayerNorm")
    for layer in (f"encoder.layer.{number}." for number in range(2)):
        query, key, value = (_linear(x, w, f"{layer}attention.self.{name}") for name in ("query", "key", "value"))
        heads = [
            softmax(query[:, part] @ key[:, part].T / np.sqrt(8), axis=-1) @ value[:, part]
            for part in (slice(0, 8), slice(8, 16), slice(16, 24))
        ]
        mixed = _linear(np.concatenate(heads, axis=1), w, f"{layer}attention.output.dense")
        x = _normed(mixed + x, w, f"{layer}attention.output.LayerNorm")
        inner = _linear(x, w, f"{layer}intermediate.dense")
        inner = inner * 0.5 * (1 + erf(inner / np.sqrt(2)))
        x = _normed(_linear(inner, w, f"{layer}output.dense") + x, w, f"{layer}output.LayerNorm")
    mean = x.mean(axis=0)
    return mean / np.linalg.norm(mean)


@pytest.mark.parametrize("ids", [[101, 102], [101, 7, 8, 9, 10, 102], list(range(512))], ids=["two", "six", "all"])
def test_it_computes_what_bert_is(ids: list[int]) -> None:
    weights = random_weights(seed=3)
    np.testing.assert_allclose(run(bert_graph.build(CONFIG, weights), ids), by_hand(weights, ids), atol=2e-5)


def test_the_same_weights_give_the_same_bytes() -> None:
    first, second = (bert_graph.build(CONFIG, random_weights()) for _ in range(2))
    assert first == second
    assert bert_graph.quantized(first) == bert_graph.quantized(second)
    assert bert_graph.build(CONFIG, random_weights(seed=1)) != first


def test_half_precision_weights_will_do() -> None:
    halves = {name: each.astype(np.float16) for name, each in random_weights().items()}
    whole = {name: each.astype(np.float32) for name, each in halves.items()}
    assert bert_graph.build(CONFIG, halves) == bert_graph.build(CONFIG, whole)


def test_8_bits_are_smaller_and_close(caplog: pytest.LogCaptureFixture) -> None:
    graph = bert_graph.build(CONFIG, random_weights())
    small = bert_graph.quantized(graph)
    assert len(small) < len(graph) / 3
    assert run(graph, [101, 5, 6, 102]) @ run(small, [101, 5, 6, 102]) > 0.98
    assert not caplog.records


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"model_type": "mpnet"}, "model_type is 'mpnet'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type"),
        ({"num_hidden_layers": 3}, "have no 'encoder.layer.2.attention.self.query.weight'"),
        ({"hidden_size": 48}, "do not fit together"),
    ],
)
def test_what_is_no_such_bert_is_refused(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        bert_graph.build(CONFIG | changed, random_weights())


def test_a_config_without_a_size_is_refused() -> None:
    config = {name: value for name, value in CONFIG.items() if name != "num_attention_heads"}
    with pytest.raises(ValueError, match="have no 'num_attention_heads'"):
        bert_graph.build(config, random_weights())
