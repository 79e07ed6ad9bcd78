"""Paint a batch on this machine: workers read and write while this process paints."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from ..errors import ImpastoError
from ..options import OutputOptions, StylizeOptions
from .outputs import Output
from .painters import Painter, Painters
from .photos import Photo
from .pictures import Found, Packed, read_photo, write_painting
from .plan import Task
from .report import Entry
from .workers import Workers

AHEAD = 4
"""Photographs that each worker reads ahead."""
WAITING = 32
"""Maximum number of photographs that wait for others of the same size."""


@dataclass(frozen=True)
class Reading:
    """A photograph that is read once, for paintings of the same size.

    Parameters
    ----------
    photo : Photo
        The photograph.
    options : StylizeOptions
        The options that say how it is read: those of the first task.
    tasks : tuple of Task
        Its paintings.
    """

    photo: Photo
    options: StylizeOptions
    tasks: tuple[Task, ...]


def readings(tasks: Iterable[Task]) -> Iterator[Reading]:
    """Group tasks in a row by photograph and by how it is read."""

    def key(task: Task) -> Any:
        o = task.look.options
        return task.photo, o.size, o.scale, o.quality, o.preset, o.method, o.model, o.strength == 1

    for _, group in groupby(tasks, key):
        several = tuple(group)
        yield Reading(several[0].photo, several[0].look.options, several)


@dataclass
class Waiting:
    """Photographs of the same size that wait to be painted in the same look."""

    painter: Painter
    most: int
    items: list[tuple[Task, Found, float]] = field(default_factory=list)


class Batch:
    """A batch in progress.

    Parameters
    ----------
    painters : Painters
        The stylizers.
    workers : Workers
        They read and write.
    output : Output
        Where the paintings go.
    options : OutputOptions
        The options of reading and writing.
    stopped : callable
        Returns whether to stop. What is painted is still written.
    check : callable, optional
        Called with each photograph's height and width before it is decoded; raises ImpastoError to refuse it.
    """

    def __init__(
        self,
        painters: Painters,
        workers: Workers,
        output: Output,
        options: OutputOptions,
        stopped: Callable[[], bool] = lambda: False,
        check: Callable[[tuple[int, int]], object] | None = None,
    ):
        self.painters, self.workers, self.output, self.options = painters, workers, output, options
        self.stopped, self.check = stopped, check
        self.shelf: OrderedDict[Any, Waiting] = OrderedDict()
        self.writing: deque[tuple[Task, float, Future[Any]]] = deque()
        self.ahead = AHEAD * max(1, workers.count)

    def run(self, tasks: Iterable[Task]) -> Iterator[Entry]:
        """Paint, and yield an entry for each painting that is written or failed, in no particular order."""
        reading: deque[tuple[Reading, Future[Found]]] = deque()
        todo = readings(tasks)
        while not self.stopped():
            while len(reading) < self.ahead and (item := next(todo, None)) is not None:
                call = self.workers.submit(read_photo, item.photo, item.options, self.options.limit, self.check)
                reading.append((item, call))
            if not reading:
                break
            with suppress(ImpastoError):  # raised again when it is needed; until then the workers start and read
                self.painters.of(reading[0][0].tasks[0].look)
            yield from self._put(*reading.popleft())
            for key in [k for k, w in self.shelf.items() if len(w.items) >= w.most]:
                yield from self._paint(key)
            while sum(len(w.items) for w in self.shelf.values()) > WAITING and not self.stopped():
                yield from self._paint(max(self.shelf, key=lambda k: len(self.shelf[k].items)))
            yield from self._written(self.ahead)
        while self.shelf and not self.stopped():
            yield from self._paint(next(iter(self.shelf)))
        for _, call in reading:
            call.cancel()
        yield from self._written(0)

    def _put(self, reading: Reading, call: Future[Found]) -> Iterator[Entry]:
        """Put a photograph on the shelf, once for each of its looks."""
        try:
            found = call.result()
        except ImpastoError as error:
            yield from (failed(task, error, 0.0) for task in reading.tasks)
            return
        for task in reading.tasks:
            try:
                painter = self.painters.of(task.look)
            except ImpastoError as error:
                yield failed(task, error, 0.0)
                continue
            key = task.look, found.shape
            if key not in self.shelf:
                self.shelf[key] = Waiting(painter, painter.most(found))
            self.shelf[key].items.append((task, found, found.seconds / len(reading.tasks)))

    def _paint(self, key: Any) -> Iterator[Entry]:
        """Paint the photographs on a part of the shelf, and have the paintings written."""
        waiting = self.shelf.pop(key)
        for begin in range(0, len(waiting.items), waiting.most):
            yield from self._pass(waiting.painter, waiting.items[begin : begin + waiting.most])
            yield from self._written(self.ahead)

    def _pass(self, painter: Painter, items: list[tuple[Task, Found, float]]) -> Iterator[Entry]:
        results = painter.each([found for _, found, _ in items])
        for (task, _, reading), (result, painting) in zip(items, results, strict=True):
            if isinstance(result, Exception):
                yield failed(task, result, reading + painting)
                continue
            picture, record = result
            target = self.output.target(task.out)
            arguments = (Packed.of(picture), task.out, target, self.options, record, task.photo)
            self.writing.append((task, reading + painting, self.workers.submit(write_painting, *arguments)))

    def _written(self, most: int) -> Iterator[Entry]:
        """Yield the entries of paintings that are written, until at most `most` are not."""
        while len(self.writing) > most or (self.writing and self.writing[0][2].done()):
            task, seconds, call = self.writing.popleft()
            try:
                data, beside, more = call.result()
                if self.output.target(task.out) is None:
                    self.output.add(task.out, data, beside)
            except ImpastoError as error:
                yield failed(task, error, seconds)
                continue
            yield Entry(task.photo.source, task.look.style, task.out, "painted", "", seconds + more)


def failed(task: Task, error: Exception, seconds: float) -> Entry:
    """Return the entry of a painting that failed."""
    return Entry(task.photo.source, task.look.style, task.out, "failed", " ".join(str(error).split()), seconds)


@dataclass(frozen=True)
class Work:
    """The part of a plan that is left to do.

    Parameters
    ----------
    tasks : list of Task
        The paintings to make.
    there : list of Entry
        Entries for paintings that are there but not in the report.
    done, failed : int
        The number of paintings that are there, and of those that failed before and are not tried again.
    """

    tasks: list[Task]
    there: list[Entry]
    done: int
    failed: int


def left_to_do(tasks: Iterable[Task], there: set[str], last: dict[str, Any], retry: bool) -> Work:
    """Return the part of a plan that is left to do.

    Parameters
    ----------
    there : set of str
        The names of the paintings that are there.
    last : dict of str to Outcome
        Their last outcomes, from the report.
    retry : bool
        Whether to try again what failed before.
    """
    work = Work([], [], 0, 0)
    done = failed = 0
    for task in tasks:
        if task.out in there:
            done += 1
            if last.get(task.out) in (None, "failed"):
                work.there.append(
                    Entry(task.photo.source, task.look.style, task.out, "skipped", "it was there already", 0.0)
                )
        elif last.get(task.out) == "failed" and not retry:
            failed += 1
        else:
            work.tasks.append(task)
    return replace(work, done=done, failed=failed)
