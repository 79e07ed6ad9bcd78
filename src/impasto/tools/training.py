"""Training followed on the terminal: a bar, a line at every validation, and the log as CSV beside the output."""

import csv
import logging
import time

from ..options import TrainEncoderOptions
from ..train.distill import train_encoder
from .progress import bar, start_logging

log = logging.getLogger(__name__)

SMOOTHING = 0.97


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
