"""The champion in memory: loaded once, replaced when the alias moves, retained while the registry is unavailable.

Copies on the disk belong in ``model_cache``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mlops_platform.errors import first_line
from mlops_platform.resources.registry.model_registry import CHAMPION, MlflowTracking, RegisteredVersion
from mlops_platform.serving.model_cache import ModelCopies

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from mlops_platform.ml.classifier.prediction import Prediction

FIRST_POLL_SECONDS = 120.0
_MODELS = 2  # the current and the previous one: a rollback needs no loading
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Champion:
    """A loaded model, with its tags in the order of its probabilities."""

    registered: RegisteredVersion
    model: Pipeline
    classes: tuple[str, ...]
    loaded_at: datetime

    def predict(self, texts: Sequence[tuple[str, str]]) -> list[Prediction]:
        """Predict the tags of pairs of title and description."""
        from mlops_platform.ml.classifier.prediction import predict

        return predict(self.model, *zip(*texts, strict=True))


class ChampionFollower:
    """Polls the alias `champion` every few seconds, in a thread.

    Attributes:
        current: The champion to serve; None if there is none yet.
        problem: Why the last poll failed; None if it succeeded.
        polled_at: When the registry last answered (UTC); None if never.
    """

    def __init__(self, registry: MlflowTracking, seconds: float, copies: ModelCopies | None = None) -> None:
        """Start nothing yet; `copies` are for a start while the registry is unavailable."""
        self.current: Champion | None = None
        self.problem: str | None = "the registry has not answered yet"
        self.polled_at: datetime | None = None
        self._registry, self._seconds, self._copies = registry, seconds, copies
        self._from_copy = False
        self._models: dict[tuple[str, str], Champion] = {}
        self._polled, self._stop = threading.Event(), threading.Event()

    def start(self) -> None:
        """Start to poll, and wait for the first poll, for a limited time in case the registry hangs."""
        threading.Thread(target=self._follow, name="champion", daemon=True).start()
        self._polled.wait(FIRST_POLL_SECONDS)

    def stop(self) -> None:
        """Stop, without waiting for a running poll."""
        self._stop.set()

    def poll(self) -> None:
        """Poll once, and load the version that the alias points to if it has moved."""
        try:
            version = self._registry.by_alias(CHAMPION)
            self.polled_at = datetime.now(UTC)
            if version is None:
                self.problem = "there is no champion yet: run `mlops run`"
                if self._from_copy:
                    self.current = None  # the copy is only for a registry that does not answer
                return
            if self.current is None or _key(self.current.registered) != _key(version):
                self._serve(version)
                if self._copies is not None:
                    self._copies.remember(version)
            self._from_copy, self.problem = False, None
        except Exception as error:  # whatever the registry raises, the loaded model is still served
            problem = first_line(error)
            if problem != self.problem:
                _log.warning("The alias champion cannot be read: %s", problem)
            self.problem = problem

    def _follow(self) -> None:
        self._serve_copy()
        self.poll()
        self._polled.set()
        while not self._stop.wait(self._seconds):
            self.poll()

    def _serve_copy(self) -> None:
        """Serve the version that was served last until the registry answers."""
        try:
            version = self._copies.last() if self._copies is not None else None
            if version is not None:
                self._serve(version)
                self._from_copy = True
        except Exception as error:  # the registry is polled next
            _log.warning("The copy of the last champion cannot be served: %s", first_line(error))

    def _serve(self, version: RegisteredVersion) -> None:
        started = time.monotonic()
        previous = self._models.pop(_key(version), None)
        champion = self._load(version) if previous is None else replace(previous, registered=version)
        self._models[_key(version)] = champion
        while len(self._models) > _MODELS:
            self._models.pop(next(iter(self._models)))
        self.current = champion
        _log.warning("Serving version %s, loaded in %.1f s.", version.version, time.monotonic() - started)

    def _load(self, version: RegisteredVersion) -> Champion:
        model = self._registry.load(version.version) if self._copies is None else self._copies.load(version)
        champion = Champion(version, model, tuple(str(tag) for tag in model.classes_), datetime.now(UTC))
        champion.predict([("a first text", "so that the first request has everything imported")])
        return champion


def _key(version: RegisteredVersion) -> tuple[str, str]:
    """Return what identifies a version: a registry that was recreated numbers its versions from 1 again."""
    return version.version, version.run_id
