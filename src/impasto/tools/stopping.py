"""Being told to stop: by Ctrl-C, or by SIGTERM, which `kill`, service managers and batch systems send."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Terminated(KeyboardInterrupt):
    """SIGTERM came. What heeds Ctrl-C heeds it too."""


def interruption(number: int) -> KeyboardInterrupt:
    """The exception that a signal stands for."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def _raise(number: int, frame: FrameType | None) -> None:
    raise interruption(number)


@contextmanager
def terminable() -> Iterator[None]:
    """Inside, SIGTERM raises `Terminated`; without, it ends the process on the spot."""
    ours = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    if ours:
        signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        if ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Stop:
    """A context in which work that comes in pieces is stopped between them.

    Once `hold` was called, the first Ctrl-C or SIGTERM waits: `asked` is its exception, for whoever does the work to
    raise when a piece is whole. A second one is raised where it comes. A signal that is ignored, or that nothing in
    Python handles, is left as it is; so are all outside the main thread.
    """

    def __init__(self) -> None:
        self.asked: KeyboardInterrupt | None = None
        self._holding = False
        self._before: dict[int, Any] = {}

    def hold(self) -> None:
        """From now on, let the next signal wait."""
        self._holding = True

    def taken(self) -> KeyboardInterrupt | None:
        """What has been asked for; it no longer counts, so that one more signal can wait."""
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
