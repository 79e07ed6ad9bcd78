"""Paint a batch from the command line: the plan, the progress, the report."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ..errors import IncompleteError
from ..image.source import printable
from ..options import BatchOptions, OutputOptions, StylizeOptions
from ..tools.progress import console, start_logging
from ..tools.stopping import Stop
from .outputs import Output, open_output
from .painters import Painters
from .plan import Request, Task, check_formats, make_plan
from .report import Entry, open_report
from .run import Batch, left_to_do
from .workers import Workers, default_workers

log = logging.getLogger(__name__)

SAY_SECONDS = 60.0
"""Seconds between two lines about the progress where there is no terminal."""


@dataclass(frozen=True)
class BatchJob:
    """A batch from the command line.

    Parameters
    ----------
    request : Request
        The photographs, the styles, and where the paintings go.
    options, output, batch
        Options of painting, of reading and writing, and of the batch.
    """

    request: Request
    options: StylizeOptions
    output: OutputOptions
    batch: BatchOptions


def paint_all(job: BatchJob) -> None:
    """Paint what is not painted yet, with a progress bar and a report.

    Raises
    ------
    OptionError
        If the request makes no sense, before anything is painted.
    IncompleteError
        If some paintings failed, now or before. The rest is done.
    KeyboardInterrupt
        After what was painted is written.
    """
    start_logging()
    tasks = make_plan(job.request, job.options)
    check_formats(tasks, job.output.bits)
    painters = Painters(job.output, job.batch.per_pass)
    given = {task.look for task in tasks if task.look.options is job.options}
    for look in given:  # what the command line names must be there; a bad style of a table only fails its lines
        painters.of(look)
    out = open_output(job.request.out)
    with open_report(job.batch.report or out.report) as report, Stop() as stop:
        work = left_to_do(tasks, out.begin(task.out for task in tasks), report.last, job.batch.retry)
        for entry in work.there:
            report.add(entry)
        log.info("%s", _opening(len(tasks), work.done, work.failed, job.request.out))
        begun, painted, failed, warn = time.monotonic(), 0, work.failed, Warnings()
        stop.hold()
        with progress(len(work.tasks)) as show:
            for entry in entries(job, work.tasks, painters, out, lambda: stop.asked is not None):
                report.add(entry)
                painted += entry.outcome == "painted"
                if entry.outcome == "failed":
                    failed += 1
                    warn(entry)
                show(entry)
        out.finish()
        seconds = time.monotonic() - begun
        log.info(
            "%s: %d painted in %.1f s (%.3g pictures a second), %d there before, %d failed",
            printable(job.request.out),
            painted,
            seconds,
            painted / max(seconds, 1e-9),
            work.done,
            failed,
        )
        if (asked := stop.taken()) is not None:
            log.warning("stopped; run the same command to continue")
            raise asked
    if failed:
        where = printable(str(job.batch.report or out.report))
        raise IncompleteError(f"{failed} of {len(tasks)} paintings failed; {where} says why, --retry tries them again")


def entries(
    job: BatchJob, tasks: list[Task], painters: Painters, out: Output, stopped: Callable[[], bool]
) -> Iterator[Entry]:
    """Paint the tasks, here or on a cluster, and yield their entries."""
    if not tasks:
        return
    if job.batch.on == "ray":
        from .cluster import paint_on_ray

        yield from paint_on_ray(tasks, out, job.output, job.batch, stopped)
        return
    count = default_workers() if job.batch.workers is None else job.batch.workers
    with Workers(count) as workers:
        yield from Batch(painters, workers, out, job.output, stopped).run(tasks)


class Warnings:
    """Log why paintings fail: each reason once, and only the first ones; the report has all."""

    MOST = 20

    def __init__(self) -> None:
        self.said: set[str] = set()

    def __call__(self, entry: Entry) -> None:
        """Log the reason of an entry."""
        named = entry.path in entry.reason
        text = entry.reason if named else f"{printable(entry.path)}: {entry.reason}"
        if text in self.said or len(self.said) > self.MOST:
            return
        self.said.add(text)
        log.warning("%s", text if len(self.said) <= self.MOST else "more paintings failed; see the report")


def _opening(count: int, done: int, failed: int, out: str) -> str:
    text = f"{count} paintings to {printable(out)}"
    text += f"; {done} are there already" if done else ""
    return text + (f"; {failed} failed before, --retry tries them again" if failed else "")


@contextmanager
def progress(total: int) -> Iterator[Callable[[Entry], None]]:
    """Yield a callback that shows an entry: a bar on a terminal, else a line once a minute."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    begun = said = time.monotonic()
    done = failed = 0
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total, rate="")

        def show(entry: Entry) -> None:
            nonlocal done, failed, said
            done += 1
            failed += entry.outcome == "failed"
            now = time.monotonic()
            rate = done / max(now - begun, 1e-9)
            bar.update(task, completed=done, rate=f"{rate:.3g} pictures a second, {failed} failed")
            if not console.is_terminal and now - said >= SAY_SECONDS:
                said = now
                log.info(
                    "%d of %d, %.3g pictures a second, about %.0f s left", done, total, rate, (total - done) / rate
                )

        yield show
