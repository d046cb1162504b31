"""The IO manager of small asset values (params, metrics, decisions): a JSON file per asset.

Tables belong in the warehouse, models in MLflow; what is stored here fits on a screen.
"""

import json
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_platform.atomic_write import atomic_write
from mlops_platform.errors import PlatformError


class JsonValues(dg.ConfigurableIOManager):
    """Stores each asset's latest value under `base_dir` as readable JSON."""

    base_dir: str

    def _path(self, key: dg.AssetKey) -> Path:
        return Path(self.base_dir, *key.path).with_suffix(".json")

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Write the value of an asset."""
        if obj is not None:
            with atomic_write(self._path(context.asset_key)) as file:
                file.write_text(json.dumps(obj, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def load_input(self, context: dg.InputContext) -> Any:
        """Read the latest value of an upstream asset."""
        return self.read(context.asset_key)

    def read(self, key: dg.AssetKey) -> Any:
        """Read the latest value of an asset; a missing or damaged one is a `PlatformError`."""
        path, name = self._path(key), key.to_user_string()
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise PlatformError(f"Asset {name} has no value yet: materialize {name} first.") from None
        except ValueError:
            raise PlatformError(f"The value of {name} in {path} is damaged: materialize {name} again.") from None
