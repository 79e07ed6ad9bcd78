"""Run a stylizer's steps, for the command line and the server, with progress, record and stopping."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from torch import Tensor

from ..stylizers.protocol import Step
from .progress import step_bar
from .run import RunFolder
from .stopping import Stop

log = logging.getLogger(__name__)

Observer = Callable[[Step], None]
"""Called after each step: a progress bar, the record of a run, a preview. An exception ends the painting early."""


class EarlyEnd(Exception):  # noqa: N818
    """Raised by an observer to end a painting after the current step."""


@dataclass(frozen=True)
class Outcome:
    """How the steps of a painting ended.

    Parameters
    ----------
    last : Step
        The last step. Its image is the painting, or the painting so far.
    ended : BaseException or None
        The exception that ended the steps early, if any.
    whole : bool
        Whether the state of the last step can still be saved, because no later step has begun.
    """

    last: Step
    ended: BaseException | None
    whole: bool


def drive(steps: Iterator[Step], observers: Sequence[Observer], stop: Stop | None = None) -> Outcome:
    """Run the steps, and call the observers after each.

    Parameters
    ----------
    steps : iterator of Step
        From a stylizer.
    observers : sequence of callable
        Called in order.
    stop : Stop, optional
        Signals that end the painting after the step in which they arrive.

    Raises
    ------
    BaseException
        An error before the first step. Later errors are returned in the outcome.
    """
    last, whole = None, False
    try:
        for step in steps:
            last, whole = step, True
            for observe in observers:
                observe(step)
            if stop is not None:
                stop.hold()
                if stop.asked is not None and step.iteration < step.total:
                    raise stop.asked
            whole = False
    except (Exception, KeyboardInterrupt) as error:
        if last is None:
            raise
        return Outcome(last, error, whole)
    assert last is not None, "a stylizer yields at least one step"
    return Outcome(last, None, True)


def driven(steps: Iterator[Step], observers: Sequence[Observer], stop: Stop | None = None) -> Tensor:
    """Run the steps as `drive`, and return the image of the last. Raises what ended them early."""
    outcome = drive(steps, observers, stop)
    if outcome.ended is not None:
        raise outcome.ended
    return outcome.last.image


def drive_to_file(
    steps: Iterator[Step],
    write: Callable[[Outcome], str],
    title: str,
    run: RunFolder | None = None,
    noun: str = "painting",
) -> None:
    """Run the steps with a progress bar, write the result and log it.

    If the steps end early, the result so far is written first. Signals that arrive during writing are held until it is
    done.

    Parameters
    ----------
    write : callable
        Writes the result of an outcome and returns its file.
    title : str
        Title of the progress bar.
    run : RunFolder, optional
        The run folder for the record.
    noun : str
        Name of the result in messages.

    Raises
    ------
    BaseException
        The error that ended the steps early, or the last signal.
    """
    with Stop() as stop, run or nullcontext():
        begun = time.monotonic()
        with step_bar(title) as show:
            outcome = drive(steps, [show] if run is None else [show, run], stop)
        last, ended = outcome.last, outcome.ended
        asked, seconds = stop.taken(), time.monotonic() - begun + (0.0 if run is None else run.before)
        if run is not None and ended is not None and outcome.whole:
            run.save(last)
        target = write(outcome)
        asked = ended or asked or stop.taken()
    h, w = last.image.shape[-2:]
    if ended is None:
        how = f"{last.iteration} iterations" if last.losses else "one pass"
        log.info("%s: %dx%d, %s in %.1f s", target, w, h, how, seconds)
    else:
        where = f"the {noun} so far is in {target}"
        if run is not None and isinstance(ended, KeyboardInterrupt):
            where += f"; continue with `impasto stylize --resume {run.folder}`"
        log.warning("stopped at iteration %d of %d; %s", last.iteration, last.total, where)
    if asked is not None:
        raise asked
