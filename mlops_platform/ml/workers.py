"""Processes that score the folds of a trial side by side.

Each worker owns some of the folds and computes their features once. Which fold is scored where changes no score,
so the number of workers changes how long a search takes and nothing else.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Self

from mlops_platform.ml.model import Params

Scorer = Callable[[int, Params], float]
_scorer: Scorer | None = None


class FoldWorkers:
    """Scores parameters on all folds at once; a context manager that ends its processes."""

    def __init__(self, make_scorer: Callable[[], Scorer], folds: int, workers: int) -> None:
        """Set the processes up; each starts at its first fold, and makes the scorer for itself.

        Args:
            make_scorer: Can be pickled; what it makes takes a fold's number and parameters.
            folds: Number of folds.
            workers: Number of processes; no more are used than there are folds.
        """
        self.folds = folds
        spawn = multiprocessing.get_context("spawn")  # the caller has threads, which a fork would break
        self._executors = [
            ProcessPoolExecutor(1, mp_context=spawn, initializer=_begin, initargs=(make_scorer,))
            for _ in range(min(workers, folds))
        ]

    def scores(self, params: Params) -> Iterator[float]:
        """Score all folds; a caller that has seen enough closes the iterator, and what has not begun is left.

        Args:
            params: What to score.

        Yields:
            The score of each fold, in their order.

        Raises:
            ValueError: A worker was killed.
        """
        asked: list[Future[float]] = []
        try:
            asked += (
                self._executors[fold % len(self._executors)].submit(_score, fold, params) for fold in range(self.folds)
            )
            for each in asked:
                yield each.result()
        except BrokenProcessPool:
            raise ValueError(
                "A tuning worker died, perhaps for want of memory: use fewer workers, or give them more of it."
            ) from None
        finally:
            for each in asked:
                each.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for executor in self._executors:
            executor.shutdown(wait=False, cancel_futures=True)


def usable(workers: int) -> int:
    """How many workers this process may start.

    Args:
        workers: How many are wished for.

    Returns:
        1, which means none, in a daemonic process, as Dask's are: it may have no children.
    """
    return 1 if multiprocessing.current_process().daemon else workers


def _begin(make_scorer: Callable[[], Scorer]) -> None:
    global _scorer
    # else a worker outlives a parent that was killed
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _scorer = make_scorer()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _score(fold: int, params: Params) -> float:
    if _scorer is None:
        raise RuntimeError("a worker that has not begun")
    return _scorer(fold, params)
