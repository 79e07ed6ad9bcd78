"""Paint a film in a worker, within the server's limits. Needs the extra `video`."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from typing import get_args

from ...errors import FilmError, OptionError
from ...image.picture import Picture
from ...image.write import write_image
from ...options import FilmQuality, ServeOptions, VideoOptions
from ...stylizers.loss import check_blend
from ...stylizers.protocol import Step
from ...video.codecs import find_target
from ...video.film import Film, Frame, Pixels, to_tensor
from ...video.join import check_streams, join
from ...video.limits import Limits
from ...video.motion import Seen
from ...video.painting import paint_segments
from ...video.read import open_film
from ...video.segments import PartsFolder
from ...video.steady import SteadyPainter
from ..driver import EarlyEnd, driven
from ..video import VideoJob, chosen_part, new_painter, opened, painted_size, shown_frame
from .estimate import Countdown, Pace
from .films import FilmJob
from .painter import FRAME_SECONDS, as_frame, jpeg, over_white, show

PARTS = "parts"
"""Folder of the segments, in the job's folder."""
RESULT = 4.0
"""Largest painted film, relative to the largest upload of a film."""


def limits_of(options: ServeOptions) -> Limits:
    """Return the limits on a visitor's film."""
    return Limits(options.max_film_megapixels, options.max_film_seconds, options.max_film_frames)


def video_job(of: FilmJob, options: VideoOptions) -> VideoJob:
    """Return the job as the command line's."""
    return VideoJob(of.film, of.styles, options, of.target)


def opened_film(of: FilmJob, limits: Limits) -> Film:
    """Return the film, or the part of it that is painted. Raises ImpastoError if it cannot be read or is too long."""
    return open_film(of.film, None, limits) if of.at is not None else opened(video_job(of, of.options), limits)


def check_film(of: FilmJob, options: ServeOptions, pace: Pace) -> None:
    """Read what is needed to refuse a film before it is queued, and set its size and how long it is expected to take.

    Raises
    ------
    ImpastoError
        If the film or a style cannot be read, or is beyond the server's limits.
    """
    check_blend(of.options, 1 if of.options.styles_at else len(of.styles))
    film = opened_film(of, limits_of(options))
    size = painted_size(film, of.options)
    if max(size) > options.max_size:
        if of.options.size is not None:
            raise OptionError(f"--size {of.options.size}: this server paints at most {options.max_size} pixels a side")
        of.options = replace(of.options, size=options.max_size)
        size = painted_size(film, of.options)
    if of.at is None:
        check_streams(of.film, find_target(of.target, of.options.codec, of.options.crf, of.options.keep_hdr))
    else:
        shown_frame(film, size, of.at)
    device = options.devices[0] if options.devices else "auto"
    new_painter(video_job(of, replace(of.options, device=device, offline=True)), size, options.max_megapixels)
    of.size, of.length, of.max_seconds = size, expected_length(of, film), options.max_seconds
    estimate(of, pace)


def expected_length(of: FilmJob, film: Film) -> int | None:
    """Return about how many frames a job's whole film has, None if that is not known."""
    if of.at is not None:
        try:
            film = chosen_part(film, video_job(of, of.options))
        except OptionError:  # reported when the film is painted
            return None
    return film.about.count


def estimate(of: FilmJob, pace: Pace) -> None:
    """Set about how many seconds the whole film takes in each quality."""
    if of.size is None or of.length is None:
        return
    for quality in get_args(FilmQuality):
        of.estimates[quality] = pace.film_seconds(of.size, of.length, replace(of.options, quality=quality))


def paint_film_job(of: FilmJob, device: str, options: ServeOptions, pace: Pace, publish: Callable[[], None]) -> None:
    """Paint a film until it is done or stopped. A stopped one is not kept: it would end in the middle.

    Parameters
    ----------
    of : FilmJob
        The job to update.
    device : str
        A device as for `--device`.
    options : ServeOptions
        The server's limits.
    pace : Pace
        Updated with the measured speed.
    publish : callable
        Called after each change of `of`.

    Raises
    ------
    ImpastoError
        If the job cannot be painted.
    """
    job = video_job(of, replace(of.options, device=device, offline=True))
    film = opened_film(of, limits_of(options))
    of.size = size = painted_size(film, job.options)
    watch = Watch(of, options, publish)
    painter = new_painter(job, size, options.max_megapixels, lambda steps: driven(steps, [watch]))
    try:
        if of.at is None:
            paint_frames(of, film, painter, watch, pace)
        else:
            paint_frame(of, shown_frame(film, size, of.at), painter, watch, pace)
    except EarlyEnd as end:
        of.note = str(end)


class Watch:
    """Publishes the progress of a film, and ends it when it is stopped or takes too long; also within a frame.

    Parameters
    ----------
    of, options, publish
        As for `paint_film_job`.
    """

    def __init__(self, of: FilmJob, options: ServeOptions, publish: Callable[[], None]):
        self.of, self.options, self.publish = of, options, publish
        self.countdown, self.begun = Countdown(), time.monotonic()

    def check(self) -> None:
        """Raise EarlyEnd if the painting ends now."""
        kind, seconds = "film" if self.of.at is None else "frame", self.options.max_seconds
        if self.of.stop.is_set():
            raise EarlyEnd(f"stopped: a {kind} is only kept once it is finished")
        if time.monotonic() - self.begun > seconds:
            less = "paint a part of it, or a smaller size" if self.of.at is None else "paint a smaller size"
            raise EarlyEnd(
                f"stopped after {seconds:g} seconds, the limit of this server: a {kind} is only kept once it is "
                f"finished; {less}"
            )

    def __call__(self, step: Step) -> None:
        """Take note of a step of a frame. Raises EarlyEnd if it is to be the last."""
        if self.of.at is not None and step.scale_index == step.scales:  # which takes most of the time
            self.of.seconds_left = self.countdown.left(step, time.monotonic()) or self.of.seconds_left
            self.publish()
        if step.iteration < step.total:
            self.check()


def paint_frames(of: FilmJob, film: Film, painter: SteadyPainter, watch: Watch, pace: Pace) -> None:
    """Paint the frames of a film, and join them. Raises EarlyEnd if it ends before."""
    options, size = of.options, of.size
    assert size is not None
    target = find_target(of.target, options.codec, options.crf, options.keep_hdr)
    described = video_job(of, options).describe(size, painter.compute.precision)
    parts = PartsFolder(of.folder / PARTS, described, False)
    begun, shown = time.monotonic(), 0.0
    with closing(paint_segments(film, size, painter, parts, target)) as steps:
        for step in steps:
            now = time.monotonic()
            of.done, of.total = step.done, step.total
            if step.total is not None:
                of.seconds_left = (now - begun) / step.done * (step.total - step.done)
            if now - shown >= FRAME_SECONDS and painter.standing_in is not None:
                show(of, to_tensor(painter.standing_in))
                shown = now
            watch.publish()
            watch.check()
            if step.done % 100 == 0:
                check_room(of, watch.options)
    pace.learn_film(time.monotonic() - begun, size, of.done, options)
    estimate(of, pace)
    if painter.standing_in is not None:
        show(of, to_tensor(painter.standing_in))
    join(parts, target, of.film, film.about, (options.start, options.end))
    broken = sum(len(s.broken) for s in parts.segments)
    if broken:
        of.note = f"{broken} of {parts.done} frames could not be read; the paintings before them stand in"
    of.total = of.done
    parts.remove()


def paint_frame(of: FilmJob, frame: Frame, painter: SteadyPainter, watch: Watch, pace: Pace) -> None:
    """Paint one frame, and write it as the job's result. Raises EarlyEnd if it ends before."""
    assert frame.pixels is not None
    assert of.at is not None
    assert of.size is not None
    of.photo, of.seconds_left = as_jpeg(frame.pixels), pace.film_seconds(of.size, 1, of.options)
    watch.publish()
    begun = time.monotonic()
    pixels = painter(Seen(frame, None, None), of.at - (of.options.start or 0.0))
    assert pixels is not None
    if of.options.quality != "instant":  # a network's first pass takes much longer than later ones
        pace.learn_film(time.monotonic() - begun, of.size, 1, of.options)
        estimate(of, pace)
    show(of, to_tensor(pixels))
    keep_frame(of, pixels)


def check_room(of: FilmJob, options: ServeOptions) -> None:
    """Raise FilmError if the painted film grows larger than allowed."""
    most = RESULT * options.max_film_upload
    written = sum(p.stat().st_size for p in (of.folder / PARTS).iterdir())
    if written > 1e6 * most:
        raise FilmError(f"the painted film is larger than {most:g} MB; choose a higher --crf, a smaller --size or less")


def as_jpeg(pixels: Pixels) -> bytes:
    """Return a frame (H, W, 3 or 4) as the bytes of a JPEG file."""
    return jpeg(over_white(as_frame(to_tensor(pixels))))


def keep_frame(of: FilmJob, pixels: Pixels) -> None:
    """Write a painted frame (H, W, 3 or 4) as the job's result."""
    painted = to_tensor(pixels)
    write_image(Picture(painted[:, :3], painted[:, 3:] if painted.shape[1] == 4 else None), str(of.target))
    of.done = of.total = 1
