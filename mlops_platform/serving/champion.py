"""The champion in memory: loaded once, replaced when the alias moves, kept while the registry is away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from mlops_platform.resources.registry.model_registry import CHAMPION, RegisteredVersion

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from mlops_platform.ml.classifier.prediction import Prediction

FIRST_LOOK_SECONDS = 120.0
_KEPT_MODELS = 2  # the present and the previous one: a rollback needs no loading
_log = logging.getLogger(__name__)


class Registry(Protocol):
    """The model registry as a follower uses it; `MlflowTracking` implements it."""

    def by_alias(self, alias: str) -> RegisteredVersion | None:
        """Return the version that an alias points to, or None."""

    def load(self, version: str) -> Pipeline:
        """Load a version's pipeline."""


class Copies(Protocol):
    """Copies of champions on this disk, for a start while the registry is away; `ModelCopies` implements it."""

    def load(self, found: RegisteredVersion) -> Pipeline:
        """Load a version from the disk, where it is copied first if it is missing."""

    def remember(self, found: RegisteredVersion) -> None:
        """Note that a version is served."""

    def last(self) -> RegisteredVersion | None:
        """Return the version that was served last, or None."""


@dataclass(frozen=True)
class Champion:
    """A loaded model.

    Attributes:
        registered: Its version, with the tags that lead to its run and data.
        model: The fitted pipeline.
        classes: Its tags, in the order of its probabilities.
        loaded_at: When it was loaded (UTC).
    """

    registered: RegisteredVersion
    model: Pipeline
    classes: tuple[str, ...]
    loaded_at: datetime

    def predict(self, texts: Sequence[tuple[str, str]]) -> list[Prediction]:
        """Predict."""
        from mlops_platform.ml.classifier.prediction import predict

        return predict(self.model, *zip(*texts, strict=True))


class ChampionFollower:
    """Polls the alias `champion` every few seconds, in a thread.

    Attributes:
        problem: Why the last poll failed; None if it succeeded.
        looked_at: When the registry last answered (UTC); None if never.
    """

    def __init__(self, registry: Registry, seconds: float, copies: Copies | None = None) -> None:
        """Start nothing yet."""
        self.problem: str | None = "the registry has not answered yet"
        self.looked_at: datetime | None = None
        self._registry, self._seconds, self._copies = registry, seconds, copies
        self._current: Champion | None = None
        self._from_copy = False
        self._kept: dict[tuple[str, str], Champion] = {}
        self._looked = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def current(self) -> Champion | None:
        """The champion to serve; None if there is none yet."""
        return self._current

    def start(self, seconds: float = FIRST_LOOK_SECONDS) -> None:
        """Start to follow, and wait for the first poll."""
        self._thread = threading.Thread(target=self._follow, name="champion", daemon=True)
        self._thread.start()
        self._looked.wait(seconds)

    def stop(self) -> None:
        """Stop, without waiting for a poll that is under way."""
        self._stop.set()

    def look(self) -> None:
        """Poll once, and load the version that the alias points to if it has moved."""
        try:
            found = self._registry.by_alias(CHAMPION)
            self.looked_at = datetime.now(UTC)
            if found is None:
                self.problem = "there is no champion yet: run `mlops run`"
                if self._from_copy:
                    self._current = None  # a copy is for a registry that does not answer
                return
            if self._current is None or _key(self._current.registered) != _key(found):
                self._take(found)
                if self._copies is not None:
                    self._copies.remember(found)
            self._from_copy = False
            self.problem = None
        except Exception as error:  # whatever the registry raises, the loaded model goes on serving
            problem = _first_line(error)
            if problem != self.problem:
                _log.warning("The alias champion cannot be read: %s", problem)
            self.problem = problem

    def _take_copy(self) -> None:
        """Serve the version that was served last until the registry answers."""
        if self._copies is None or self._current is not None:
            return
        try:
            found = self._copies.last()
            if found is not None:
                self._take(found)
                self._from_copy = True
        except Exception as error:  # the registry comes next
            _log.warning("The copy of the last champion cannot be served: %s", _first_line(error))

    def _take(self, found: RegisteredVersion) -> None:
        begun = time.monotonic()
        kept = self._kept.pop(_key(found), None)
        champion = self._loaded(found) if kept is None else replace(kept, registered=found)
        self._kept[_key(found)] = champion
        while len(self._kept) > _KEPT_MODELS:
            self._kept.pop(next(iter(self._kept)))
        self._current = champion
        _log.warning("Serving version %s, loaded in %.1f s.", found.version, time.monotonic() - begun)

    def _loaded(self, found: RegisteredVersion) -> Champion:
        model = self._registry.load(found.version) if self._copies is None else self._copies.load(found)
        champion = Champion(found, model, tuple(str(tag) for tag in model.classes_), datetime.now(UTC))
        champion.predict([("a first text", "so that the first request finds everything imported")])
        return champion

    def _follow(self) -> None:
        self._take_copy()
        self.look()
        self._looked.set()
        while not self._stop.wait(self._seconds):
            self.look()


def _key(found: RegisteredVersion) -> tuple[str, str]:
    """Return what identifies a version: a registry that was recreated numbers its versions from 1 again."""
    return found.version, found.run_id


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
