"""What one check of `mlops doctor` has to report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: What was checked.
        state: `ok`, `note` (not there yet, and that is fine) or `missing`.
        detail: What was found and, where it is missing, the setting or command that provides it.
    """

    name: str
    state: Literal["ok", "note", "missing"]
    detail: str
