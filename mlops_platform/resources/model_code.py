"""The code of ours that goes into a registered model, so that the model loads where this package is absent."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# where the whole package is installed too, its other modules are found beside the one here
_SHARED_PACKAGE = "from pkgutil import extend_path\n\n__path__ = extend_path(__path__, __name__)\n"


@contextmanager
def encoder_code(wanted: bool) -> Iterator[list[str] | None]:
    """Lends a package of our name with one module, which makes sentence vectors; None where it is not wanted.

    Args:
        wanted: Whether the model makes sentence vectors.

    Yields:
        What MLflow takes as `code_paths`.
    """
    if not wanted:
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="mlops-code-") as folder:
        package = Path(folder) / "mlops_platform"
        (package / "ml").mkdir(parents=True)
        for place in (package, package / "ml"):
            (place / "__init__.py").write_text(_SHARED_PACKAGE, encoding="utf-8")
        source = Path(__file__).parents[1] / "ml" / "encoder.py"
        (package / "ml" / "encoder.py").write_bytes(source.read_bytes())
        yield [str(package)]
