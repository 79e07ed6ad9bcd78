"""Paint a job in a worker: run its steps, publish frames, save the painting."""

import io
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...errors import OptionError
from ...image.picture import Picture, over_white
from ...image.resize import fit_size, resize
from ...image.write import quantised, write_image
from ...options import OutputOptions
from ...stylizers.choose import choose_stylizer
from ...stylizers.protocol import Step
from ..driver import EarlyEnd, drive
from ..job import PaintJob, describe
from ..paint import Sources, read_sources
from ..run import make_record
from .estimate import Countdown, Pace
from .jobs import PAINTING_FILE, Job, PictureJob, Seen

FRAME_SECONDS = 0.5
"""Seconds between two frames of a painting."""
FRAME_SIDE = 1024
"""Maximum long side of a frame in pixels."""
FRAME_QUALITY = 85


def paint_job(
    job: PaintJob, of: PictureJob, device: str, max_seconds: float, pace: Pace, publish: Callable[[], None]
) -> None:
    """Paint a job until it is done or stopped. Sets its `record` and writes its painting's file.

    Parameters
    ----------
    job : PaintJob
        What to paint, with the paths of the sources.
    of : PictureJob
        The job to update.
    device : str
        A device as for `--device`.
    max_seconds : float
        The painting is stopped after this time.
    pace : Pace
        Updated with the measured speed.
    publish : callable
        Called after each change of `of`.

    Raises
    ------
    ImpastoError
        If the job cannot be painted.
    """
    given = read_sources(job)
    of.photo = jpeg(over_white(as_frame(given.photo.pixels)))
    options = replace(given.options, device=device, offline=True)
    stylizer = choose_stylizer(given.styles, options, given.start)
    described = {"method": stylizer.method, **describe(job, stylizer.compute)}
    steps = stylizer.steps(given.photo.pixels, given.regions, given.mask)
    watch = Watch(of, max_seconds, lambda step: given.photo.with_tensor(step.image.float().cpu()).pixels, publish)
    outcome = drive(steps, [watch])
    if isinstance(outcome.ended, EarlyEnd):
        of.note = of.note or str(outcome.ended)
    elif outcome.ended is not None:
        raise outcome.ended
    watch.learn(outcome.last, pace)
    keep(of, given, described, outcome.last)


class Watch:
    """An observer that publishes a painting's progress, and ends it when it is stopped or takes too long.

    Parameters
    ----------
    of, max_seconds, publish
        As for `paint_job`.
    picture : callable
        Takes a step and returns the picture to show, (1, 3 or 4, H, W), sRGB, [0, 1].
    """

    def __init__(
        self, of: PictureJob, max_seconds: float, picture: Callable[[Step], Tensor], publish: Callable[[], None]
    ):
        self.of, self.max_seconds, self.picture, self.publish = of, max_seconds, picture, publish
        self.countdown, self.shown, self.begun = Countdown(), 0.0, time.monotonic()

    def __call__(self, step: Step) -> None:
        """Publish a step. Raises EarlyEnd if it is to be the last."""
        of, now = self.of, time.monotonic()
        of.step = Seen(step.scale, step.iteration, step.total, dict(step.losses))
        of.seconds_left = self.countdown.left(step, now)
        of.add_row({"iteration": step.iteration, "scale": max(step.scale), **step.losses})
        if now - self.shown >= FRAME_SECONDS or step.iteration == step.total:
            show(of, self.picture(step))
            self.shown = now
        self.publish()
        if step.iteration < step.total and of.stop.is_set():
            raise EarlyEnd("stopped: this is the painting so far")
        if step.iteration < step.total and now - self.begun > self.max_seconds:
            raise EarlyEnd(f"stopped after {self.max_seconds:g} seconds, the limit of this server")

    def learn(self, last: Step, pace: Pace) -> None:
        """Update the measured speed after the last step."""
        seconds = self.countdown.pace(last, time.monotonic())
        if seconds is not None:
            pace.learn(seconds, last.scale)


def show(of: Job, picture: Tensor) -> None:
    """Make a picture (1, 3 or 4, H, W) the job's current frame, with transparent parts on white."""
    of.preview = jpeg(over_white(as_frame(picture)))
    of.frames += 1


def frame_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width of the frame of a picture of height and width `size`."""
    return fit_size(size, long_side=FRAME_SIDE)


def as_frame(image: Tensor) -> Tensor:
    """Return a picture (1, 3 or 4, H, W) reduced to the size of a frame."""
    return resize(image.float().cpu(), frame_size((image.shape[-2], image.shape[-1])))


def jpeg(image: Tensor, quality: int = FRAME_QUALITY) -> bytes:
    """Return a picture (1, 3, H, W), [0, 1], as the bytes of a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(quantised(image[0].permute(1, 2, 0), np.dtype(np.uint8))).save(file, "JPEG", quality=quality)
    return file.getvalue()


def keep(of: PictureJob, given: Sources, described: dict[str, Any], last: Step) -> None:
    """Save the painting in the job's folder with 16 bits per sample, and its record in the job."""
    painting = given.photo.with_tensor(last.image.float().cpu())
    levels = quantised(painting.tensor, np.dtype(np.uint16))
    with (of.folder / PAINTING_FILE).open("wb") as file:
        if painting.alpha is None:
            np.savez(file, tensor=levels)
        else:
            np.savez(file, tensor=levels, alpha=painting.alpha.numpy())
    of.size = painting.size
    show(of, painting.pixels)
    of.metadata = painting.metadata
    of.record = make_record(described, last, last.iteration == last.total)


def kept(of: PictureJob) -> Picture:
    """Return the painting of a job that has one."""
    with np.load(of.folder / PAINTING_FILE, allow_pickle=False) as arrays:
        tensor = torch.from_numpy(arrays["tensor"].astype(np.float32) / 65535)
        alpha = torch.from_numpy(arrays["alpha"]) if "alpha" in arrays else None
    return Picture(tensor, alpha, of.metadata)


def encoded(of: PictureJob, file_format: str, output: OutputOptions) -> bytes:
    """Return the bytes of the painting's file, with its profile, the photograph's metadata and its record.

    Raises
    ------
    OptionError
        If the format does not support that many bits, or the job has no painting.
    """
    if not of.has_picture:
        raise OptionError("there is no painting to download yet")
    file = io.BytesIO()
    write_image(
        kept(of),
        file,
        bits=output.bits,
        quality=output.jpeg_quality,
        keep_gps=output.keep_gps,
        record=dict(of.record or {}),
        format=file_format,
    )
    return file.getvalue()
