"""The recipe by which training data is composed; it imports nothing heavy, so the definitions can load it.

Applying it belongs in `resampling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Balance = Literal["weights", "none", "oversample", "undersample"]
Augmentation = Literal["drop_words", "swap_words", "title_only", "description_only"]


@dataclass(frozen=True)
class Recipe:
    """How the train split becomes the training data. By default it is used unchanged, with class weights.

    Attributes:
        balance: Handling of class imbalance: "weights" weights rows inversely to class size, "none" weights all rows
            equally, "oversample" repeats rows of small classes, and "undersample" drops rows of large classes.
        balance_ratio: Target ratio of the last two; see `resampling.balance`.
        augment: Augmented copies that are added for each row.
        recent_days: Use all rows of this many days before the newest one; 0 for rows of all times.
        replay_share: Share of older rows in the training data if `recent_days` is set, in [0, 1).
    """

    balance: Balance = "weights"
    balance_ratio: float = 1.0
    augment: tuple[Augmentation, ...] = ()
    recent_days: int = 0
    replay_share: float = 0.5

    def __post_init__(self) -> None:
        """Raise ValueError if a name is unknown or a number out of range."""
        if self.balance not in get_args(Balance):
            raise ValueError(f"The balance is {self.balance!r}; it must be one of {', '.join(get_args(Balance))}.")
        if unknown := sorted(set(self.augment) - set(get_args(Augmentation))):
            raise ValueError(
                f"Unknown augmentation {', '.join(unknown)}; there are {', '.join(get_args(Augmentation))}."
            )
        if not 0 < self.balance_ratio <= 1:
            raise ValueError(f"The ratio is {self.balance_ratio}; it must lie above 0 and be at most 1.")
        if self.recent_days < 0:
            raise ValueError(f"recent_days is {self.recent_days}; it must be 0 or more.")
        if not 0 <= self.replay_share < 1:
            raise ValueError(f"The share is {self.replay_share}; it must be 0 or more and below 1.")

    @property
    def weighs_classes(self) -> bool:
        """Whether the model uses class weights."""
        return self.balance == "weights"

    def weights_only(self) -> Recipe:
        """Return the part of the recipe that out-of-core training supports, the class weights."""
        return Recipe(balance="none" if self.balance == "none" else "weights")

    def to_dict(self) -> dict[str, Any]:
        """Return the values that differ from the defaults and have an effect; equal for equivalent recipes."""
        defaults = {field.name: field.default for field in fields(self)}
        changed = {name: value for name, value in asdict(self).items() if value != defaults[name]}
        if self.balance in ("oversample", "undersample"):
            changed["balance_ratio"] = self.balance_ratio
        else:
            changed.pop("balance_ratio", None)
        if self.recent_days:
            changed["replay_share"] = self.replay_share
        else:
            changed.pop("replay_share", None)
        if self.augment:
            changed["augment"] = sorted(set(self.augment))
        return changed

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recipe:
        """Build a recipe from what `to_dict` returned, also after a round trip through JSON."""
        return cls(**{**values, "augment": tuple(values.get("augment", ()))})
