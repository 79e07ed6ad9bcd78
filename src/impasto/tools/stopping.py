"""Stop cleanly on Ctrl-C and on SIGTERM, which `kill`, service managers and batch systems send."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """Raised on SIGTERM. A subclass of KeyboardInterrupt, so code that handles Ctrl-C handles it too."""


def interruption(number: int) -> KeyboardInterrupt:
    """Return the exception for a signal."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def _raise(number: int, frame: FrameType | None) -> None:
    raise interruption(number)


@contextmanager
def terminable() -> Iterator[None]:
    """Make SIGTERM raise `Terminated` inside the context. Without it, SIGTERM ends the process immediately."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Stop:
    """A context in which work is stopped between its steps.

    After `hold` was called, the first Ctrl-C or SIGTERM is stored in `asked` as an exception, for the caller to raise
    when a step is complete. A second signal is raised immediately. Signals that are ignored, or have no handler in
    Python, are left alone, and so are all signals outside the main thread.
    """

    def __init__(self) -> None:
        self.asked: KeyboardInterrupt | None = None
        self._holding = False
        self._before: dict[int, Any] = {}

    def hold(self) -> None:
        """Hold the next signal from now on."""
        self._holding = True

    def taken(self) -> KeyboardInterrupt | None:
        """Return the held signal's exception, if any, and clear it, so that another signal can be held."""
        asked, self.asked = self.asked, None
        return asked

    def __enter__(self) -> "Stop":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if callable(signal.getsignal(number)):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._holding or self.asked is not None:
            raise interruption(number)
        self.asked = interruption(number)
