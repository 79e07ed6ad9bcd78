"""Pictures for the next steps, prepared by worker processes while a step is computed."""

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
"""A training step, and the number of a picture in its batch."""

PACKAGE = logging.getLogger("impasto")
WORKER_RECORDS: SimpleQueue[logging.LogRecord] = SimpleQueue()
"""In a worker: what was logged and is still to be sent."""


@dataclass(frozen=True)
class _Group(Generic[T]):
    """What a worker sends: a group's samples, or the error that ended them, and what was logged meanwhile."""

    samples: list[T]
    error: ImpastoError | None
    records: list[logging.LogRecord]


class _Samples(Dataset[_Group[T]]):
    """The sampler as DataLoader calls it, inside a worker, with a group's numbers."""

    def __init__(self, sampler: Callable[[int, int], T]):
        self.sampler = sampler

    def __getitems__(self, group: Sequence[Numbers]) -> _Group[T]:
        samples: list[T] = []
        error = None
        try:
            samples = [self.sampler(step, i) for step, i in group]
        except ImpastoError as caught:  # as DataLoader's it would arrive as a page of text
            error = caught
        return _Group(samples, error, _logged())


def prepared(
    sampler: Callable[[int, int], T], numbers: Iterator[Sequence[Numbers]], workers: int, *, start: str | None = None
) -> Generator[list[T], None, None]:
    """Yield `[sampler(step, i) for step, i in group]` for each group of numbers, in order.

    With workers, groups are computed ahead, two a worker, so `numbers` is read ahead, too. Samples are the same for any
    number of workers if they depend on their numbers alone. What workers log comes out of the process that called.
    Closing the generator ends the workers.

    Parameters
    ----------
    sampler : callable
        (step, number of the picture) -> sample, with tensors on the CPU. It is pickled where processes are not forked:
        on macOS, on Windows, and from Python 3.14 on.
    numbers : iterator of sequences of (int, int)
        The groups; it may be endless.
    workers : int
        Worker processes, of one thread each; 0 computes each group in this process when it is asked for.
    start : "fork", "forkserver", "spawn" or None
        How worker processes are started; None is the platform's own way.

    Raises
    ------
    ImpastoError
        What the sampler raises.
    TrainingError
        If a worker process dies.
    """
    if workers == 0:
        for group in numbers:
            yield [sampler(step, i) for step, i in group]
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # more workers than cores are the caller's choice
        loader = DataLoader(
            _Samples(sampler),
            batch_sampler=numbers,  # pyright: ignore[reportArgumentType]: any iterable will do
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_begin_worker,
            multiprocessing_context=start,
            generator=torch.Generator(),  # else it would draw from the global one, with workers only
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
        # A traceback may hold the iterator, so its end cannot be left to the garbage collector.
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


def _as_it_is(group: Any) -> Any:
    return group


def _begin_worker(number: int) -> None:
    # Ctrl-C, and the SIGTERM of a batch system, reach all processes. The training heeds them, then ends its workers.
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, signal.SIG_IGN)
    # Two processes that draw on one terminal would spoil its progress bar.
    PACKAGE.handlers[:] = [QueueHandler(WORKER_RECORDS)]
    PACKAGE.setLevel(logging.INFO)
    PACKAGE.propagate = False


def _logged() -> list[logging.LogRecord]:
    """What was logged in this worker since the last call."""
    return [WORKER_RECORDS.get() for _ in range(WORKER_RECORDS.qsize())]
