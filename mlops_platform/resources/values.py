"""Small asset values (params, metrics, decisions) as JSON files, one an asset.

Tables stay in the warehouse and models in MLflow: what passes through here is what fits on a screen.
"""

import json
import os
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_platform.errors import PlatformError


class JsonValues(dg.ConfigurableIOManager):
    """Keeps each asset's latest value under `base_dir` as readable JSON."""

    base_dir: str

    def _path(self, key: dg.AssetKey) -> Path:
        return Path(self.base_dir, *key.path).with_suffix(".json")

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Write a value; a reader sees the old file or the new one, never a half."""
        if obj is None:
            return
        path = self._path(context.asset_key)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(obj, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)

    def load_input(self, context: dg.InputContext) -> Any:
        """Read the latest value of an upstream asset."""
        return self.read(context.asset_key)

    def read(self, key: dg.AssetKey) -> Any:
        """Read the latest value of an asset.

        Args:
            key: The asset.

        Returns:
            What the asset returned when it was last materialized.

        Raises:
            PlatformError: There is no value, or the file does not hold JSON.
        """
        path = self._path(key)
        name = key.to_user_string()
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise PlatformError(f"Asset {name} has no value yet: materialize {name} first.") from None
        except ValueError:
            raise PlatformError(f"The value of {name} in {path} is damaged: materialize {name} again.") from None
