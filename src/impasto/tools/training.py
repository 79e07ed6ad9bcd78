"""Run a training from the terminal, with a bar that shows the time left and a log next to the output."""

import logging
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from pathlib import Path

from ..device import freed_memory_kept
from ..errors import TrainingError
from ..options import TrainEncoderOptions, TrainNetworkOptions
from ..train.distill import EncoderRecipe
from ..train.loop import Training, stop_fabric, train
from ..train.network import NetworkRecipe
from ..train.start import sample_sheet, start_encoder_training, start_network_training
from .progress import bar, counting_bar, start_logging
from .stopping import Stop
from .training_log import TrainingLog

log = logging.getLogger(__name__)

LOG_EVERY = 50
"""Steps between two rows of the log."""
SAMPLES = 4
"""Number of photographs on a sheet of samples."""

Look = Callable[[TrainingLog, int], dict[str, float]]
"""Called with the log and the number of steps done. Returns its measurements."""


def follow_network(o: TrainNetworkOptions) -> None:
    """Train a network that paints. Writes a row of OUT.csv every 50 steps, and sheets of samples.

    Raises
    ------
    ImpastoError
        If something that the options name is missing or does not fit.
    KeyboardInterrupt
        After the checkpoint is written.
    """
    begin(o.out)
    with counting_bar("looking for pictures") as found:
        training = start_network_training(o, found)
    recipe = training.recipe
    assert isinstance(recipe, NetworkRecipe)
    sampler = recipe.sample
    paintings = len(sampler.paintings) if sampler.paintings else 0
    contents = f"{len(sampler.photos)} photographs, {paintings} paintings, {len(recipe.styles)} styles"
    photos = sampler.photographs(SAMPLES)

    def sheet(book: TrainingLog, step: int) -> dict[str, float]:
        book.sheet(sample_sheet(recipe, photos), step)
        return {}

    follow(training, f"{contents}, on {recipe.compute}", o.sample_every, sheet)


def follow_encoder(o: TrainEncoderOptions) -> None:
    """Train the compact encoder. Writes a row of OUT.csv every 50 steps and at every validation, which is also logged.

    Raises
    ------
    ImpastoError
        If something that the options name is missing or does not fit.
    KeyboardInterrupt
        After the checkpoint is written.
    """
    begin(o.out)
    with counting_bar("looking for pictures") as found:
        training = start_encoder_training(o, found)
    recipe = training.recipe
    assert isinstance(recipe, EncoderRecipe)
    contents = f"{len(recipe.sample.photos)} photographs, {len(recipe.sample.paintings)} paintings"

    def validation(book: TrainingLog, step: int) -> dict[str, float]:
        return {"validation": recipe.validation()}

    follow(training, f"{contents}, on {recipe.compute}", o.validate_every, validation, ["validation"])


def begin(out: Path) -> None:
    """Start the log on the terminal, and make the output folder.

    Raises
    ------
    TrainingError
        If the folder cannot be made.
    """
    start_logging()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot write {out}: {error.strerror}; name another place with --out") from error


def follow(training: Training, title: str, every: int, look: Look, measured: Sequence[str] = ()) -> None:
    """Run all steps of a training, and log them in the first process.

    Parameters
    ----------
    training : Training
        The training, newly started or resumed.
    title : str
        The first line of the log.
    every : int
        Steps between two evaluations; 0 for none. There is also one after the last step.
    look : callable
        Evaluates the network, which has its averaged weights during the call.
    measured : sequence of str
        Names of the figures that `look` returns.

    Raises
    ------
    TrainingError
        If the loss is no longer finite, or no picture can be read.
    KeyboardInterrupt
        On a signal, after the checkpoint is written.
    """
    o, first = training.options, training.fabric.is_global_zero
    if first:
        log.info("%s", title)
    with Stop() as stop, TrainingLog(o.out, LOG_EVERY, training.step, measured) if first else nullcontext() as book:
        with bar("figures") as progress, closing(train(training)) as steps, freed_memory_kept():
            task = progress.add_task(o.out.stem, total=o.steps, completed=training.step, figures="")
            for step in steps:
                stop.hold()
                if book is not None:
                    found: dict[str, float] = {}
                    if every and (step.step % every == 0 or step.step == o.steps):
                        with training.averaged():
                            found = look(book, step.step)
                    figures = book.step(step, found)
                    progress.update(task, completed=step.step, figures=figures)
                    if found:
                        log.info("step %d: %s; %s", step.step, _text(found), figures)
                if stop.asked is not None:
                    break
        asked = stop.taken()
    if first and training.step < o.steps:
        log.warning("stopped at step %d of %d; continue with --resume", training.step, o.steps)
    elif first:
        log.info("%s: trained", o.out)
    if asked is not None:
        raise asked
    stop_fabric(training.fabric)


def _text(figures: dict[str, float]) -> str:
    return " ".join(f"{k} {v:.4f}" for k, v in figures.items())
