"""The champion in memory: loaded once, replaced when the alias moves, kept while the registry is away."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from mlops_platform.resources.tracking import CHAMPION, RegisteredVersion

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from mlops_platform.ml.prediction import Prediction

_KEPT_MODELS = 2  # the present and the last one: a rollback needs no loading
_log = logging.getLogger(__name__)


class Registry(Protocol):
    """What a follower asks of the model registry; `MlflowTracking` has it."""

    def by_alias(self, alias: str) -> RegisteredVersion | None:
        """The version an alias points to, or None."""

    def load(self, version: str) -> Pipeline:
        """Load a version's pipeline."""


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
        """Predict.

        Args:
            texts: n pairs of title and description.

        Returns:
            n predictions.
        """
        from mlops_platform.ml.prediction import predict

        return predict(self.model, *zip(*texts, strict=True))


class ChampionFollower:
    """Looks at the alias `champion` every few seconds, in a thread of its own.

    Attributes:
        problem: Why the last look gave nothing new to serve; None where it went well.
        looked_at: When the registry last answered (UTC); None if never.
    """

    def __init__(self, registry: Registry, seconds: float) -> None:
        """Start nothing yet.

        Args:
            registry: Where the alias is.
            seconds: Pause between two looks.
        """
        self.problem: str | None = "the registry was not asked yet"
        self.looked_at: datetime | None = None
        self._registry, self._seconds = registry, seconds
        self._current: Champion | None = None
        self._kept: dict[str, Champion] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def current(self) -> Champion | None:
        """What to serve; a request that has taken it keeps it to its end."""
        return self._current

    def start(self) -> None:
        """Begin to follow; the first look is a pause away."""
        self._thread = threading.Thread(target=self._follow, name="champion", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End; a look that is under way is not waited for."""
        self._stop.set()

    def look(self) -> None:
        """Look once, and load what the alias points to if it has moved."""
        try:
            found = self._registry.by_alias(CHAMPION)
            self.looked_at = datetime.now(UTC)
            if found is None:
                self.problem = "there is no champion yet: run `mlops run`"
                return
            if self._current is None or self._current.registered.version != found.version:
                self._take(found)
            self.problem = None
        except Exception as error:  # whatever a registry throws, what is loaded goes on serving
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            if said != self.problem:
                _log.warning("The champion cannot be looked at: %s", said)
            self.problem = said

    def _take(self, found: RegisteredVersion) -> None:
        begun = time.monotonic()
        kept = self._kept.pop(found.version, None)
        champion = self._loaded(found) if kept is None else replace(kept, registered=found)
        self._kept[found.version] = champion
        while len(self._kept) > _KEPT_MODELS:
            self._kept.pop(next(iter(self._kept)))
        self._current = champion
        _log.warning("Serving version %s, taken in %.1f s.", found.version, time.monotonic() - begun)

    def _loaded(self, found: RegisteredVersion) -> Champion:
        model = self._registry.load(found.version)
        champion = Champion(found, model, tuple(str(each) for each in model.classes_), datetime.now(UTC))
        champion.predict([("a first text", "so that the first request finds everything imported")])
        return champion

    def _follow(self) -> None:
        while not self._stop.wait(self._seconds):
            self.look()
