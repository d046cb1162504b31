"""Results kept between calls, up to a number of bytes."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Kept(Generic[Key, Value]):
    """What was computed, by key; once the room is full, what is new is computed each time."""

    def __init__(self, room: int, size: Callable[[Value], int]) -> None:
        """Keep nothing yet.

        Args:
            room: Bytes.
            size: Says how many of them a value takes.
        """
        self._room, self._size = room, size
        self._values: dict[Key, Value] = {}

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """Return what is kept, or else make it."""
        if key in self._values:
            return self._values[key]
        value = make()
        if (size := self._size(value)) <= self._room:
            self._room -= size
            self._values[key] = value
        return value
