"""The choices by which training data is composed; light enough for the code location to load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

Balance = Literal["weights", "none", "oversample", "undersample"]
Augmentation = Literal["drop_words", "swap_words", "title_only", "description_only"]


@dataclass(frozen=True)
class Recipe:
    """How the rows of the train split become what the model is fitted on. The defaults take them as they are.

    Attributes:
        balance: One of four ways to deal with classes of different size. "weights": the model weighs rows so that
            every class counts the same. "none": every row counts the same. "oversample": rows of small classes are
            repeated, "undersample": rows of large classes are left out, both instead of weights.
        balance_ratio: What the last two aim at; see `ml.composition.balance`.
        augment: Changed copies that are added of each row.
        recent_days: Days before the newest row from which all rows are taken; 0 takes the rows of all times.
        replay_share: Share of older rows among the training rows where `recent_days` leaves them out, in [0, 1).
    """

    balance: Balance = "weights"
    balance_ratio: float = 1.0
    augment: tuple[Augmentation, ...] = ()
    recent_days: int = 0
    replay_share: float = 0.5

    def __post_init__(self) -> None:
        """Check names and ranges.

        Raises:
            ValueError: A name is unknown or a number out of range.
        """
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
        """Whether the model weighs classes by itself."""
        return self.balance == "weights"

    def weights_only(self) -> Recipe:
        """What is left of it for streamed training, which takes rows as they come and can only weigh classes."""
        return Recipe(balance="none" if self.balance == "none" else "weights")

    def to_dict(self) -> dict[str, Any]:
        """What departs from the defaults and has an effect, JSON-able; empty if rows are taken as they are.

        Two recipes that give the same training rows have the same content here.
        """
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
        """Make a recipe from what `to_dict` returned, also after a way through JSON."""
        return cls(**{**values, "augment": tuple(values.get("augment", ()))})
