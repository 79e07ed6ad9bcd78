"""Training followed on the terminal: a bar with the time left, and the log beside the output."""

import csv
import logging
import time
from contextlib import closing, nullcontext
from typing import Any

from ..errors import TrainingError
from ..options import (
    TrainArbitraryOptions,
    TrainEncoderOptions,
    TrainFeedforwardOptions,
    TrainStrengthOptions,
    TrainStyleOptions,
)
from ..train.distill import train_encoder
from ..train.loop import Training, train
from ..train.photographs import PhotographsRecipe
from ..train.start import (
    sample_sheet,
    start_arbitrary_training,
    start_strength_training,
    start_style_training,
    start_training,
)
from .progress import bar, start_logging
from .stopping import Stop
from .training_log import TrainingLog

log = logging.getLogger(__name__)

NetworkOptions = TrainFeedforwardOptions | TrainStyleOptions | TrainArbitraryOptions | TrainStrengthOptions
"""Of every training of a network that paints."""
SMOOTHING = 0.97
SAMPLES = 4
"""Photographs on a sheet of samples."""


def follow_painter(o: NetworkOptions) -> None:
    """Train a network that paints, or a part of one; a row of OUT.csv every 50 steps, sheets of samples.

    Raises
    ------
    ImpastoError
        If anything that the options ask for cannot be had.
    KeyboardInterrupt
        After the checkpoint is written.
    """
    start_logging()
    try:
        o.out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"cannot write {o.out}: {error.strerror}; name another place with --out") from error
    training = begin(o)
    recipe = training.recipe
    assert isinstance(recipe, PhotographsRecipe)
    first = training.fabric.is_global_zero
    if first:
        log.info("%s, %d photographs, on %s", recipe.what, len(recipe.photos), recipe.compute)
    with Stop() as stop, TrainingLog(o.out, 50, training.step) if first else nullcontext() as book:
        _follow(training, recipe, stop, book)
        asked = stop.taken()
    if asked is not None:
        if first:
            log.warning("stopped at step %d of %d; --resume goes on", training.step, o.steps)
        raise asked
    if first:
        log.info("%s: trained", o.out)


def begin(o: NetworkOptions) -> Training:
    """The training of what the options are for, resumed if they say so."""
    if isinstance(o, TrainArbitraryOptions):
        return start_arbitrary_training(o)
    if isinstance(o, TrainStrengthOptions):
        return start_strength_training(o)
    return start_style_training(o) if isinstance(o, TrainStyleOptions) else start_training(o)


def _follow(training: Training, recipe: PhotographsRecipe[Any], stop: Stop, book: TrainingLog | None) -> None:
    o, photos = training.options, recipe.sample(SAMPLES)
    with bar("figures") as progress, closing(train(training)) as steps:
        task = progress.add_task(o.out.stem, total=o.steps, completed=training.step, figures="")
        for step in steps:
            stop.hold()
            if book is not None:
                progress.update(task, completed=step.step, figures=book.step(step))
                if o.sample_every and (step.step % o.sample_every == 0 or step.step == o.steps):
                    with training.averaged():
                        book.sheet(sample_sheet(recipe, photos), step.step)
            if stop.asked is not None:
                break


def follow_encoder(options: TrainEncoderOptions) -> None:
    """Train the compact encoder; every 100 steps a row of OUT.csv, at every validation a line."""
    start_logging()
    smooth: dict[str, float] = {}
    path = options.out.with_suffix(".csv")
    steps = train_encoder(options)
    begun = time.monotonic()
    with bar("figures") as progress, path.open("a" if options.resume else "w", newline="") as file:
        rows = csv.writer(file)
        task = progress.add_task("encoder", total=options.steps, figures="")
        for step in steps:
            for k, v in step.errors.items():
                smooth[k] = SMOOTHING * smooth.get(k, v) + (1 - SMOOTHING) * v
            figures = " ".join(f"{k.removeprefix('relu')} {v:.3f}" for k, v in sorted(smooth.items()))
            progress.update(task, completed=step.step, figures=figures)
            if step.step % 100 == 0 or step.validation is not None:
                seconds = round(time.monotonic() - begun, 1)
                rows.writerow(
                    [step.step, seconds, *(f"{smooth[k]:.5f}" for k in sorted(smooth)), step.validation or ""]
                )
                file.flush()
            if step.validation is not None:
                log.info(
                    "step %d: gram/photo of pictures painted on it %.4f, errors %s", step.step, step.validation, figures
                )
    log.info("%s: trained", options.out)
