"""Working side by side: an iterator that runs ahead in a thread, calls in order, and several calls at a time."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import torch

T = TypeVar("T")

AHEAD = 4
"""Items that wait between two threads at most, so that memory does not grow with the film."""


def ahead(items: Iterable[T], size: int = AHEAD) -> Generator[T, None, None]:
    """Yield items that a thread takes from an iterable, up to `size` ahead.

    An exception of the iterable is raised where its item would be. Closing the generator stops the thread and closes
    the iterable.
    """
    waiting: queue.Queue[tuple[bool, Any]] = queue.Queue(size)
    stop = threading.Event()

    def put(good: bool, value: Any) -> None:
        while not stop.is_set():
            try:
                waiting.put((good, value), timeout=0.1)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put(True, item)
                if stop.is_set():
                    break
            put(False, None)
        except BaseException as error:
            put(False, error)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            good, value = waiting.get()
            if good:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        stop.set()
        thread.join()


class InOrder:
    """A context in which one thread makes calls in the order in which they are given.

    An exception of a call is raised by a later `call`, or at the end; the calls after it are not made. Leaving the
    context waits for the others, even if an exception leaves it: a call that was given is made.
    """

    def __init__(self, size: int = AHEAD):
        self.size, self.waiting = size, deque[Future[Any]]()
        self.failed = False
        self.pool = ThreadPoolExecutor(1)

    def call(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Have a call made. Waits while too many wait already."""
        self.waiting.append(self.pool.submit(self._make, function, arguments))
        while len(self.waiting) > self.size or (self.waiting and self.waiting[0].done()):
            self.waiting.popleft().result()

    def finish(self) -> None:
        """Wait until all calls are made."""
        while self.waiting:
            self.waiting.popleft().result()

    def _make(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        if self.failed:
            return
        try:
            function(*arguments)
        except BaseException:
            self.failed = True
            raise

    def __enter__(self) -> "InOrder":
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown()
        if error[0] is None:
            self.finish()


class SideBySide:
    """A context in which threads make calls at the same time, each with its share of the processor's cores.

    One thread with all cores would use them less well: its parts wait for each other at the end of each operation, and
    all of them wait when another thread of the program takes a core. The thread that enters has its share, too.

    Parameters
    ----------
    count : int
        Calls at a time. One more may be made while the others are waited for.
    """

    def __init__(self, count: int):
        self.count, self.cores = count, torch.get_num_threads()
        self.pool = ThreadPoolExecutor(count + 1)

    def start(self, call: Callable[[], T]) -> Callable[[], T]:
        """Start a call, and return what waits for its result and returns it."""
        return self.pool.submit(call).result

    def __enter__(self) -> "SideBySide":
        ready = threading.Barrier(self.count + 2)

        def share() -> None:
            torch.get_num_threads()  # a thread's first use sets its number, and would undo the next line
            torch.set_num_threads(max(1, self.cores // self.count))
            ready.wait()

        for _ in range(self.count + 1):
            self.pool.submit(share)
        share()
        # PyTorch gives new threads the number that any thread has set last.
        last = threading.Thread(target=torch.set_num_threads, args=(self.cores,))
        last.start()
        last.join()
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.shutdown(cancel_futures=True)
        torch.set_num_threads(self.cores)
