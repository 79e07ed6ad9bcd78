"""Painting a film: reading, painting and encoding side by side, segment by segment."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from typing import Any

import torch
from av.error import FFmpegError

from ..device import freed_memory_kept
from ..errors import FilmError
from ..stylizers.network_memory import strip_budget
from .ahead import InOrder, SideBySide, ahead
from .codecs import Target
from .encode import FrameWriter, SegmentEncoder
from .film import Description, Film, Pixels
from .motion import Seen, watch
from .segments import PartsFolder, Segment
from .steady import Begun, SteadyPainter, when_asked


@dataclass(frozen=True)
class Progress:
    """How far the painting of a film is.

    Parameters
    ----------
    done : int
        Frames painted so far, before an interruption too.
    total : int or None
        All frames, where the film says how long it is; an estimate.
    seconds : float
        Time of the last frame since the beginning of the film.
    """

    done: int
    total: int | None
    seconds: float


def paint_segments(
    film: Film, size: tuple[int, int], painter: SteadyPainter, parts: PartsFolder, target: Target
) -> Generator[Progress, None, None]:
    """Paint a film into segments, and yield the progress after each frame.

    Continues after the segments that are finished. Closing the iterator keeps those.

    Parameters
    ----------
    film : Film
        The film.
    size : (int, int)
        Height and width at which to paint it.
    painter : SteadyPainter
        Paints its frames, newly made.
    parts : PartsFolder
        Where to write the segments.
    target : Target
        How to encode them.

    Raises
    ------
    FilmError
        If no frame of the film can be painted, or a segment cannot be written.
    """
    about = film.about
    state, sight = parts.state()
    painter.restore(state)
    done = parts.done
    total = about.count
    after = parts.segments[-1].times[-1] if parts.segments else None
    frames = ahead(film.frames(size, after))
    watched = ahead(watch(frames, sight)) if painter.options.stability else (Seen(f, None, None) for f in frames)
    segment: _OpenSegment | None = None
    missing: list[int] = []

    def left() -> int:
        """Return how many frames the segment still takes."""
        return painter.segment - (0 if segment is None else len(segment.times))

    painted = _painted(painter, watched, lambda t: float((t - about.first) * about.time_base), left, size)
    with closing(frames), closing(watched), InOrder() as encoding, closing(painted):
        try:
            for begun, pixels in painted:
                seen, time, seconds = begun.seen, begun.seen.frame.time, begun.seconds
                if pixels is None:  # nothing stands in for a broken frame before the first good one
                    missing.append(time)
                    continue
                if segment is None:
                    segment = _OpenSegment(parts, target, about, (pixels.shape[0], pixels.shape[1]), done)
                    segment.broken, missing = missing, []
                segment.note(time, seen)
                encoding.call(segment.writer.add, time, pixels, seen.frame.duration)
                done += 1
                if len(segment.times) == painter.segment:
                    encoding.call(segment.finish, painter.state(), seen)
                    segment = None
                yield Progress(done, None if total is None else max(total, done), seconds)
            if segment is not None:
                encoding.call(segment.finish, painter.state(), None)
            encoding.finish()
            segment = None
        finally:
            if segment is not None:
                with suppress(Exception):
                    encoding.call(segment.writer.close)
    if not parts.segments:
        raise FilmError(f"{about.name} has no frames there; check --start and --end")


def frames_at_once(painter: SteadyPainter, size: tuple[int, int]) -> int:
    """Return how many frames of height and width `size` to paint at a time: at most one per core, if memory allows."""
    stylizer = painter.looks.stylizer
    if stylizer.compute.device.type != "cpu":
        return 1
    limit, _ = strip_budget(stylizer.compute, stylizer.options.max_memory)
    fit = painter.at_once if limit is None else int(limit // stylizer.memory_need(size))
    return max(1, min(painter.at_once, torch.get_num_threads(), fit))


def _painted(
    painter: SteadyPainter,
    watched: Iterable[Seen],
    seconds: Callable[[int], float],
    left: Callable[[], int],
    size: tuple[int, int],
) -> Generator[tuple[Begun, Pixels | None], None, None]:
    """Yield frames and their paintings in order. Begins several frames ahead, but no more than are `left`."""
    count, waiting, coming = frames_at_once(painter, size), deque[Begun](), iter(watched)
    with ExitStack() as stack:
        start = when_asked
        if count > 1:
            stack.enter_context(freed_memory_kept(large=False))
            start = stack.enter_context(SideBySide(count)).start
        ahead_of = count + 1 if count > 1 else 1
        while True:
            while len(waiting) < min(ahead_of, left()) and (seen := next(coming, None)) is not None:
                waiting.append(painter.begin(seen, seconds(seen.frame.time), start))
            if not waiting:
                return
            begun = waiting.popleft()
            yield begun, painter.finish(begun)


class _OpenSegment:
    """The segment that is being painted."""

    def __init__(self, parts: PartsFolder, target: Target, about: Description, size: tuple[int, int], done: int):
        self.parts = parts
        self.times: list[int] = []
        self.durations: list[int] = []
        self.broken: list[int] = []
        self.writer: Any
        if target.frames:
            self.writer = FrameWriter(parts.frames, target.path.name, done)
        else:
            try:
                self.writer = SegmentEncoder(parts.unfinished(), target, about, size)
            except (FFmpegError, OSError) as error:
                raise FilmError(f"{parts.name} cannot be written ({error.strerror}); choose another place") from error

    def note(self, time: int, seen: Seen) -> None:
        """Add a frame."""
        self.times.append(time)
        self.durations.append(seen.frame.duration)
        if seen.frame.pixels is None:
            self.broken.append(time)

    def finish(self, state: Any, seen: Seen | None) -> None:
        """Finish the segment; called by the thread that encodes."""
        self.writer.close()
        self.parts.finish(Segment(self.times, self.durations, self.broken), state, None if seen is None else seen.sight)
