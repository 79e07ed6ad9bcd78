"""Paint one film from a file to a file, with progress, clean stopping and continuing."""

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import BrokenFramesError, FilmError, OptionError
from ..image.picture import Picture
from ..image.resize import fit_size
from ..image.source import printable
from ..image.write import check_target, write_image
from ..options import VideoOptions
from ..ranges import MAX_MEGAPIXELS
from ..stylizers.protocol import Run, last_image
from ..stylizers.sources import resolve_style, style_side
from ..video.codecs import FORMATS, Target, find_target
from ..video.film import LOOK_BACK, Cut, Film, Frame, even, to_tensor
from ..video.hdr import HDR
from ..video.join import check_streams, frame_folder_is_free, join
from ..video.limits import Limited, Limits
from ..video.looks import Looks
from ..video.masks import MaskFilm
from ..video.motion import Seen
from ..video.optimized import OptimizedPainter
from ..video.painting import Progress, paint_segments
from ..video.read import open_film
from ..video.segments import SUFFIX, PartsFolder, begun_precision, film_entry
from ..video.steady import SteadyPainter
from .destination import Destination
from .driver import driven
from .job import source_entry
from .progress import bar, start_logging
from .stopping import Stop

log = logging.getLogger(__name__)

LONG_SIDE = 1280
"""Largest long side of a painted film by default, in pixels."""
MISSING = 0.5
"""A film with no frames in this many seconds at its end may be cut short."""
LISTED = 5
"""Maximum number of times of broken frames in a message."""


@dataclass(frozen=True)
class VideoJob:
    """A film to paint: sources, destination and options.

    Parameters
    ----------
    film : Path
        The film: a file, or a folder of pictures.
    styles : tuple of str
        Paths or built-in names; empty if the options' `styles_at` names them.
    options : VideoOptions
        The options.
    out : Path or None
        A file, a folder, or a pattern for a folder of pictures; None is the current folder.
    mask : Path or None
        A film or a picture: where to paint.
    """

    film: Path
    styles: tuple[str, ...]
    options: VideoOptions
    out: Path | None = None
    mask: Path | None = None

    @property
    def named_styles(self) -> tuple[str, ...]:
        """The styles: those given, or those of the key frames."""
        return self.styles or tuple(name for _, name in self.options.style_times)

    def destination(self, suffix: str) -> Destination:
        """Return the destination, with a suffix for a generated name."""
        return Destination(self.out, f"{self.film.stem}-{Path(self.named_styles[0]).name.split('.')[0]}", suffix)

    def describe(self, size: tuple[int, int], precision: str) -> dict[str, Any]:
        """Return what the painting depends on, as plain values, for continuing it."""
        return {
            "film": film_entry(self.film),
            "styles": [source_entry(s) for s in self.named_styles],
            "options": {**self.options.to_dict(), "precision": precision},
            "size": list(size),
            "precision": precision,
            **({} if self.mask is None else {"mask": film_entry(self.mask)}),
        }


def paint_film(job: VideoJob, resume: bool = False) -> None:
    """Paint a film and write it.

    Parameters
    ----------
    resume : bool
        Continue an interrupted painting of the same job.

    Raises
    ------
    ImpastoError
        If the job cannot be done; before the first frame if possible.
    BrokenFramesError
        After the film is written, if some of its frames could not be read.
    KeyboardInterrupt
        After the finished part is kept.
    """
    opening = start_logging(f"Film: {job.film}; styles: {', '.join(job.named_styles)}")
    options = job.options
    usual = job.film.suffix.lower() if job.film.suffix.lower() in FORMATS and job.film.suffix != ".png" else ".mp4"
    planned = Path(job.destination(usual).file)
    target = find_target(planned, options.codec, options.crf, options.keep_hdr)
    film = opened(job)
    check_streams(job.film, target)
    if target.frames and not frame_folder_is_free(target.place):
        raise OptionError(f"--out {printable(str(target.path))}: the folder is not empty; name a new one")
    if planned.resolve() == job.film.resolve():
        raise OptionError(f"--out {printable(str(planned))} is the film itself; choose another name")
    size = painted_size(film, options)
    place = target.place.parent / (target.place.name + SUFFIX)
    precision = begun_precision(place) if resume and options.precision == "auto" else None
    stop = Stop()
    painter = new_painter(
        job if precision is None else replace(job, options=replace(options, precision=precision)),
        size,
        run=lambda steps: driven(steps, [], stop),
    )
    parts = PartsFolder(place, job.describe(size, painter.compute.precision), resume)
    opening()  # nothing was refused
    _say_what_is_lost(film, target, size)
    if parts.segments:
        log.info("continuing after %d frames", parts.done)
    try:
        with stop:
            begun, before = time.monotonic(), parts.done
            with film_bar(job.film.name) as show, closing(paint_segments(film, size, painter, parts, target)) as steps:
                for step in steps:
                    show(step)
                    stop.hold()
                    if stop.asked is not None:
                        raise stop.asked
            last = parts.segments[-1].times[-1] * film.about.time_base
            _warn_if_cut_short(film, float(last - film.about.first * film.about.time_base))
            broken = [t for s in parts.segments for t in s.broken]
            seconds = time.monotonic() - begun
            join(parts, target, job.film, film.about, (options.start, options.end))
    except KeyboardInterrupt:
        if parts.segments:
            log.warning("stopped; %d frames are kept: add --resume to continue", parts.done)
        parts.remove(unless_begun=True)
        raise
    except BaseException:
        parts.remove(unless_begun=True)
        raise
    done = parts.done
    parts.remove()
    rate = in_words(done - before, seconds)
    log.info("%s: %dx%d, %d frames in %.1f s (%s)", target.place, size[1], size[0], done, seconds, rate)
    if broken:
        about = film.about
        shown = ", ".join(f"{float((t - about.first) * about.time_base):.2f} s" for t in broken[:LISTED])
        more = f" and {len(broken) - LISTED} more" if len(broken) > LISTED else ""
        raise BrokenFramesError(
            f"{about.name}: {len(broken)} of {done} frames could not be read (at {shown}{more}); the paintings before "
            f"them stand in. The film is in {target.place}; fetch {about.name} again to paint all of it"
        )


def preview(job: VideoJob, seconds: float) -> None:
    """Paint the frame that is shown at a time of the film, and write it as a picture.

    Raises
    ------
    ImpastoError
        If the job cannot be done.
    """
    opening = start_logging(f"Frame at {seconds:g} s of {job.film}; styles: {', '.join(job.named_styles)}")
    target = job.destination(".png").file
    check_target(target, format=None)
    film = open_film(job.film, job.options.fps)
    size = painted_size(film, job.options)
    frame = shown_frame(film, size, seconds)
    painter = new_painter(job, size)
    opening()
    pixels = painter(Seen(frame, None, None), seconds - (job.options.start or 0.0))
    assert pixels is not None
    painted = to_tensor(pixels)
    with job.destination(".png").claimed() as path:
        write_image(Picture(painted[:, :3], painted[:, 3:] if painted.shape[1] == 4 else None), path)
        log.info("%s: %dx%d", path, size[1], size[0])


def shown_frame(film: Film, size: tuple[int, int], seconds: float) -> Frame:
    """Return the frame that is shown at a time of the film, in seconds from its first frame.

    Raises
    ------
    OptionError
        If the film is not that long.
    FilmError
        If no frame can be read there.
    """
    about = film.about
    wanted = about.first + round(seconds / about.time_base)
    if about.seconds is not None and seconds >= about.seconds:
        raise OptionError(f"--frame {seconds:g}s: {about.name} has only {about.seconds:g} s; give an earlier time")
    since = wanted - round(LOOK_BACK / about.time_base)
    frame = frame_at(film, size, wanted, since) if since >= about.first else None
    frame = frame or frame_at(film, size, wanted, None)
    if frame is None:
        raise FilmError(f"{about.name}: no frame can be read at {seconds:g} s; give another --frame")
    return frame


def frame_at(film: Film, size: tuple[int, int], time: int, since: int | None) -> Frame | None:
    """Return the frame that is shown at a time, or the last good one before it; None if none comes after `since`."""
    last = None
    with closing(film.frames(size, since)) as frames:
        for frame in frames:
            if frame.time > time:
                break
            last = last if frame.pixels is None else frame
    return last


def opened(job: VideoJob, limits: Limits | None = None) -> Film:
    """Return the part of the film that the options ask for, within the limits on a stranger's film, if there are any.

    Raises
    ------
    FilmError
        If it cannot be read, or is beyond the limits.
    """
    options = job.options
    part = chosen_part(open_film(job.film, options.fps, limits), job)
    return part if limits is None else Limited(part, limits)


def chosen_part(film: Film, job: VideoJob) -> Film:
    """Return the part of a film that the options ask for. Raises OptionError if the film ends before it."""
    options = job.options
    fps = None if job.film.is_dir() else options.fps
    if (options.start, options.end, fps) == (None, None, None):
        return film
    seconds = film.about.seconds
    if options.start is not None and seconds is not None and options.start >= seconds:
        raise OptionError(f"--start {options.start:g}s: {film.about.name} has only {seconds:g} s; give an earlier time")
    return Cut(film, options.start, options.end, fps)


def painted_size(film: Film, options: VideoOptions) -> tuple[int, int]:
    """Return the height and width at which a film is painted: even, since codecs need that."""
    own = film.about.size
    return even(fit_size(own, long_side=options.size or LONG_SIDE, enlarge=options.size is not None))


def new_painter(
    job: VideoJob, size: tuple[int, int], max_megapixels: float = MAX_MEGAPIXELS, run: Run = last_image
) -> SteadyPainter:
    """Return what paints the frames, with the styles bound.

    Parameters
    ----------
    max_megapixels : float
        Largest picture of a style.
    run : callable
        Runs the steps of each frame that is optimised.

    Raises
    ------
    ImpastoError
        If a style cannot be read.
    """
    options = job.options
    long = style_side(size, options)
    styles = [resolve_style(s, max_megapixels, options.model, long) for s in job.named_styles]
    masks = None if job.mask is None else MaskFilm(job.mask, size)
    if options.quality == "good":
        return OptimizedPainter(styles, options, size, masks, run)
    return SteadyPainter(Looks(styles, options), options, masks)


def film_bar(title: str) -> Any:
    """Return a context with a callback that shows the progress: frames, frames a second and time left."""
    return _FilmBar(title)


class _FilmBar:
    def __init__(self, title: str):
        self.title, self.begun, self.first = title, time.monotonic(), -1

    def __enter__(self) -> Callable[[Progress], None]:
        self.bar = bar("rate")
        self.bar.start()
        self.task = self.bar.add_task(self.title, total=None, rate="")
        return self.show

    def show(self, step: Progress) -> None:
        if self.first < 0:
            self.first, self.begun = step.done, time.monotonic()
        elapsed = time.monotonic() - self.begun
        rate = in_words(step.done - self.first, elapsed) if elapsed > 1 and step.done > self.first else ""
        self.bar.update(self.task, total=step.total, completed=step.done, rate=rate)

    def __exit__(self, *error: object) -> None:
        self.bar.stop()


def in_words(frames: int, seconds: float) -> str:
    """Return how fast frames were painted: frames a second, or seconds a frame if it takes more than one."""
    rate = frames / max(seconds, 1e-6)
    return f"{rate:.1f} frames a second" if rate >= 1 or not frames else f"{seconds / frames:.1f} s a frame"


def _warn_if_cut_short(film: Film, last: float) -> None:
    """Log a warning if the last frame, at `last` seconds, comes long before the end that the film promises."""
    about = film.about
    if about.seconds is not None and about.seconds - last > MISSING + 2 / float(about.rate):
        log.warning(
            "%s: the last frame is at %.1f s, but the film says that it lasts %.1f s; it may be cut short",
            about.name,
            last,
            about.seconds,
        )


def _say_what_is_lost(film: Film, target: Target, size: tuple[int, int]) -> None:
    """Log what the painted film will lack of the original."""
    about, suffix = film.about, target.path.suffix
    height, width = about.size
    if max(size) < max(even(about.size)):
        log.info("the film is painted at %dx%d; --size %d paints all of it", size[1], size[0], max(height, width))
    if target.hdr and about.colour.transfer not in HDR:
        log.info("the film has no high dynamic range, so --keep-hdr changes nothing")
    if target.codec is None:
        return
    _, alpha, deep = target.codec.pixel_format(about.alpha, about.deep)
    if about.alpha and not alpha:
        log.info("%s output in this codec has no transparency: what is transparent becomes white", suffix)
    if about.deep and not deep:
        log.info("%s output in this codec has 8 bits; the film has %d", suffix, about.bits)
