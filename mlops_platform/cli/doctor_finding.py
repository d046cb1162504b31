"""The result of one check of `mlops doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: What was checked.
        state: `ok`, `note` (not there yet, and that is fine) or `missing`.
        detail: What the check saw and, if something is missing, the setting or command that provides it.
    """

    name: str
    state: Literal["ok", "note", "missing"]
    detail: str
