"""Progress on the terminal: a bar on standard error with scale, iteration, losses and time left; silent when piped."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..stylizers.protocol import Step

console = Console(stderr=True)


def start_logging(opening: str = "") -> Callable[[], None]:
    """Send the library's messages to standard error, a line each.

    Parameters
    ----------
    opening : str
        The first line. It waits for the first message, so that what is refused at once says nothing but why.

    Returns
    -------
    callable
        Logs the opening now, unless it has been logged.
    """
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_time=False, show_path=False, show_level=False)
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("impasto: %(message)s"))
    logger = logging.getLogger("impasto")
    waiting = [opening] if opening else []

    def open_now() -> None:
        if waiting:
            logger.info("%s", waiting.pop())

    def opened_first(_: logging.LogRecord) -> bool:
        open_now()
        return True

    handler.addFilter(opened_first)
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return open_now


def bar(*columns: str) -> Progress:
    """A progress bar whose tasks have fields of these names."""
    texts = [TextColumn("{task.fields[" + c + "]}") for c in columns]
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        *texts,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def step_bar(title: str) -> Iterator[Callable[[Step], None]]:
    """Yield a callback that shows a step on a bar: its scale, its iteration, its losses and the time left."""
    with bar("scale", "losses") as progress:
        task = progress.add_task(title, total=None, scale="", losses="")

        def show(step: Step) -> None:
            h, w = step.scale
            progress.update(
                task,
                total=step.total,
                completed=step.iteration,
                scale=f"{w}x{h} ({step.scale_index}/{step.scales})",
                losses=" ".join(f"{k} {v:.4g}" for k, v in step.losses.items()),
            )

        yield show


@contextmanager
def download_bar(title: str) -> Iterator[Callable[[int, int | None], None]]:
    """A callback (bytes done, total or None) that a bar shows."""
    with bar() as progress:
        task = progress.add_task(title, total=None)

        def show(done: int, total: int | None) -> None:
            progress.update(task, completed=done >> 20, total=None if total is None else total >> 20)

        yield show


@contextmanager
def counting_bar(title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A callback (how many are done) that a bar shows."""
    with bar() as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def share_bar(title: str) -> Iterator[Callable[[float, str], None]]:
    """A callback (how much is done, 0 to 1, and a text) that a bar shows with the time left."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=1.0, text="")
        yield lambda share, text: progress.update(task, completed=share, text=text)
