"""The file of `mlops run --config`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlops_platform.errors import PlatformError


def read_config(path: Path | None) -> dict[str, Any]:
    """Read run config.

    Args:
        path: A YAML file; None for no config.

    Raises:
        PlatformError: The file cannot be read, or is not a run config.
    """
    if path is None:
        return {}
    import yaml

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlatformError(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise PlatformError(f"{path} is not YAML: {str(error).splitlines()[0]}.") from error
    if not isinstance(config, dict):
        raise PlatformError(f"{path} is not a run config: it should begin with `ops:`.")
    return config
