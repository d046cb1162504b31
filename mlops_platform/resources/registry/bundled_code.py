"""The code that is saved with a model, so that it loads where this package is not installed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# where this package is installed as well, its other modules stay importable
_SHARED_PACKAGE = "from pkgutil import extend_path\n\n__path__ = extend_path(__path__, __name__)\n"


@contextmanager
def encoder_code(sentence_vectors: bool) -> Iterator[list[str] | None]:
    """Yield MLflow's `code_paths`: a package with the encoder module; None for a model without sentence vectors."""
    if not sentence_vectors:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="mlops-code-") as folder:
        package = Path(folder) / "mlops_platform"
        module = package / "ml" / "embeddings" / "encoder.py"
        module.parent.mkdir(parents=True)
        for subfolder in (package, package / "ml", module.parent):
            (subfolder / "__init__.py").write_text(_SHARED_PACKAGE, encoding="utf-8")
        source = Path(__file__).parents[2] / "ml" / "embeddings" / "encoder.py"
        module.write_bytes(source.read_bytes())
        yield [str(package)]
