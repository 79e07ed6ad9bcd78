"""Worker processes: if one dies, its task fails and the process is replaced."""

import logging
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from ..container import allowed_processors
from ..errors import ImpastoError, PictureError

log = logging.getLogger(__name__)

Message = tuple[int, str]
"""Level and text of a message that was logged in a worker."""
PATIENCE = 5.0
"""Seconds that a worker has to end."""


def default_workers() -> int:
    """Return how many workers read and write for one process that paints."""
    return max(1, (allowed_processors() or os.cpu_count() or 1) // 2)


class Workers:
    """A context with processes that call functions.

    Parameters
    ----------
    count : int
        The number of processes. With 0, the functions are called in a thread of this process.
    """

    def __init__(self, count: int):
        self.count = count
        self.threads = ThreadPoolExecutor(max(1, count), "impasto-worker")
        self.own = threading.local()
        self.all: list[_Process] = []

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Have a worker call a function. Both must be picklable.

        The future raises ImpastoError if the function raised any exception, or its process died.
        """
        return self.threads.submit(self._call, function, arguments)

    def _call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        if not self.count:
            return guarded(function, arguments)
        process: _Process | None = getattr(self.own, "process", None)
        if process is None or not process.alive:
            process = self.own.process = _Process()
            self.all.append(process)
        good, value, messages = process.call(function, arguments)
        for level, text in messages:
            log.log(level, "%s", text)
        if not good:
            raise value
        return value

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        self.threads.shutdown(cancel_futures=True)
        for process in self.all:
            process.end()


class _Process:
    """A process, and the pipe to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would copy PyTorch's threads in an undefined state
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.alive = True

    def call(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any, list[Message]]:
        """Return whether the call succeeded, its result or exception, and the messages."""
        try:
            # `send` would move tensors to shared memory, which containers have little of.
            self.pipe.send_bytes(pickle.dumps((function, arguments), pickle.HIGHEST_PROTOCOL))
            return pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            self.alive = False
            self.process.join(PATIENCE)
            why = f"code {self.process.exitcode}"
            return False, PictureError(f"the process that worked on it ended ({why}); convert the picture"), []

    def end(self) -> None:
        """End the process."""
        self.pipe.close()
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()


def serve(pipe: Connection) -> None:
    """Call what arrives on the pipe until it closes, which also happens if the process at its other end is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the main one decides
    import torch

    torch.set_num_threads(1)
    messages: list[Message] = []
    logger = logging.getLogger("impasto")
    logger.handlers[:] = [_Collector(messages)]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    while True:
        try:
            function, arguments = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            answer = (True, guarded(function, arguments), messages)
        except ImpastoError as error:
            answer = (False, error, messages)
        try:
            pipe.send_bytes(pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))
        except OSError:
            return
        messages.clear()


def guarded(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call a function. Raises ImpastoError for any exception, so that one bad picture does not end the batch."""
    try:
        return function(*arguments)
    except ImpastoError:
        raise
    except MemoryError as error:
        raise ImpastoError("out of memory; use fewer --workers, or a smaller --size") from error
    except Exception as error:
        log.debug("a picture failed", exc_info=True)
        text = " ".join(str(error).split())
        raise ImpastoError(f"it failed ({type(error).__name__}: {text})") from error


class _Collector(logging.Handler):
    """Collects messages in a list."""

    def __init__(self, messages: list[Message]):
        super().__init__()
        self.messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append((record.levelno, record.getMessage()))
