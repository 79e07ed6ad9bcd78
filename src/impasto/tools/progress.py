"""Progress bars on standard error with scale, iteration, losses and time left; silent when piped."""

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
    """Send the library's messages to standard error, one line each.

    Parameters
    ----------
    opening : str
        The first line. It is logged just before the first message, so that an immediate refusal prints only its error.

    Returns
    -------
    callable
        Logs the opening now, unless it was already logged.
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

    def open_first(_: logging.LogRecord) -> bool:
        open_now()
        return True

    handler.addFilter(open_first)
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return open_now


def bar(*columns: str) -> Progress:
    """Return a progress bar with columns for these fields of its tasks."""
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
    """Yield a callback (bytes done, total or None) that updates a bar."""
    with bar() as progress:
        task = progress.add_task(title, total=None)

        def show(done: int, total: int | None) -> None:
            progress.update(task, completed=done >> 20, total=None if total is None else total >> 20)

        yield show


@contextmanager
def counting_bar(title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Yield a callback (number done) that updates a bar."""
    with bar() as progress:
        task = progress.add_task(title, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def share_bar(title: str) -> Iterator[Callable[[float, str], None]]:
    """Yield a callback (progress from 0 to 1, text) that updates a bar with the time left."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=1.0, text="")
        yield lambda share, text: progress.update(task, completed=share, text=text)
