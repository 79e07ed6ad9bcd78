"""Preparing the pictures of the next steps in worker processes while a step is computed."""

import logging
import signal
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from ..errors import ImpastoError, TrainingError

T = TypeVar("T")
Numbers = tuple[int, int]
"""Training step, and number of a picture in its batch."""

PACKAGE = logging.getLogger("impasto")
WORKER_RECORDS: SimpleQueue[logging.LogRecord] = SimpleQueue()
"""In a worker: log records not yet sent."""


@dataclass(frozen=True)
class _Group(Generic[T]):
    """A worker's answer: the samples of a group or the error that was raised, and log records."""

    samples: list[T]
    error: ImpastoError | None
    records: list[logging.LogRecord]


class _Samples(Dataset[_Group[T]]):
    """The sampler as a data set for DataLoader, which calls it in a worker with the numbers of a group."""

    def __init__(self, sampler: Callable[[int, int], T]):
        self.sampler = sampler

    def __getitems__(self, group: Sequence[Numbers]) -> _Group[T]:
        samples: list[T] = []
        error = None
        try:
            samples = [self.sampler(step, i) for step, i in group]
        except ImpastoError as caught:  # DataLoader would turn it into a page of text
            error = caught
        return _Group(samples, error, _logged())


def prepared(
    sampler: Callable[[int, int], T], numbers: Iterator[Sequence[Numbers]], workers: int, *, start: str | None = None
) -> Generator[list[T], None, None]:
    """Yield `[sampler(step, i) for step, i in group]` for each group of numbers, in order.

    Workers compute groups ahead, two per worker, so `numbers` is read ahead, too. If samples depend only on their
    numbers, they are the same for any number of workers. What workers log is logged in the calling process. Closing the
    generator ends the workers.

    Parameters
    ----------
    sampler : callable
        (step, number of the picture) -> sample, with tensors on the CPU. It is pickled on platforms that do not fork:
        macOS, Windows, and Python 3.14 or newer.
    numbers : iterator of sequences of (int, int)
        The groups; may be endless.
    workers : int
        Number of worker processes, with one thread each. 0 computes each group in this process on demand.
    start : "fork", "forkserver", "spawn" or None
        How to start worker processes; None uses the platform's default.

    Raises
    ------
    ImpastoError
        Any that the sampler raises.
    TrainingError
        If a worker process dies.
    """
    if workers == 0:
        for group in numbers:
            yield [sampler(step, i) for step, i in group]
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of more workers than cores; that is the caller's choice
        loader = DataLoader(
            _Samples(sampler),
            batch_sampler=numbers,  # pyright: ignore[reportArgumentType]: any iterable will do
            num_workers=workers,
            collate_fn=_identity,
            worker_init_fn=_begin_worker,
            multiprocessing_context=start,
            generator=torch.Generator(),  # otherwise it would use the global one, but only with workers
        )
        groups = iter(loader)
    try:
        while (group := _next(groups)) is not None:
            for record in group.records:
                logger = logging.getLogger(record.name)
                if logger.isEnabledFor(record.levelno):
                    logger.handle(record)
            if group.error is not None:
                raise group.error
            yield group.samples
    finally:
        # A traceback may keep the iterator alive, so do not leave its shutdown to the garbage collector.
        groups._shutdown_workers()  # pyright: ignore[reportAttributeAccessIssue]


def _next(groups: Iterator[_Group[T]]) -> _Group[T] | None:
    try:
        return next(groups, None)
    except RuntimeError as error:
        said = " ".join(str(error).split())
        if not said.startswith("DataLoader worker"):
            raise
        raise TrainingError(
            f"a worker process that prepares pictures died ({said.rstrip('. ')}); if memory is short, use fewer with "
            "--workers"
        ) from error


def _identity(group: Any) -> Any:
    return group


def _begin_worker(number: int) -> None:
    # Ctrl-C, and SIGTERM from a batch system, reach all processes. The main process handles them and ends its workers.
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, signal.SIG_IGN)
    # Two processes that write to one terminal would garble the progress bar.
    PACKAGE.handlers[:] = [QueueHandler(WORKER_RECORDS)]
    PACKAGE.setLevel(logging.INFO)
    PACKAGE.propagate = False


def _logged() -> list[logging.LogRecord]:
    """Return the records logged in this worker since the last call."""
    return [WORKER_RECORDS.get() for _ in range(WORKER_RECORDS.qsize())]
