"""Reading films with PyAV: every frame at its own time, upright, in square pixels, in sRGB."""

import heapq
from collections.abc import Generator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from av.error import ArgumentError, FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ..errors import FilmError
from ..image.source import one_line, printable
from .film import Colour, Description, Film, Frame, Pixels
from .hdr import HDR, to_sdr
from .limits import Limits
from .pictures import AnimatedFilm, FolderFilm

BT709, BT601 = 1, 6
"""Matrix coefficients of HD and SD films, assumed for films that do not state theirs."""
HD_LINES = 720
"""Number of lines from which such a film is taken to be HD."""
ATTACHED = Disposition.attached_pic
BY_DECODING_TIMES = "mp4"
"""Part of the names of formats in which a frame's duration is the step to the next decoding time: MP4, MOV."""
PICTURES = ("image2", "_pipe")
"""What the names of picture formats contain."""


def open_film(path: Path, fps: float | None = None, limits: Limits | None = None) -> Film:
    """Open a film file, an animated picture, or a folder of pictures.

    Parameters
    ----------
    fps : float, optional
        The rate of a folder without the times of its pictures.
    limits : Limits, optional
        The film is a stranger's: read no other file than this one, and no frames above the limit. Its length is
        limited by `limits.Limited`.

    Raises
    ------
    FilmError
        If there is no film, it has no pictures, or it is damaged so that none can be read.
    """
    name = printable(str(path))
    if path.is_dir():
        return FolderFilm(path, fps)
    if not path.exists():
        raise FilmError(f"{name} does not exist; check the name of the film")
    if path.stat().st_size == 0:
        raise FilmError(f"{name} is empty; save or fetch it again")
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return AnimatedFilm(path, limits)
    return ContainerFilm(path, limits)


class ContainerFilm:
    """A film that PyAV reads.

    Parameters
    ----------
    path : Path
        The file.
    limits : Limits, optional
        Those of a stranger's film.

    Raises
    ------
    FilmError
        If it has no pictures, or is damaged so that none can be read.
    """

    def __init__(self, path: Path, limits: Limits | None = None):
        self.path, self.name, self.limits = path, printable(str(path)), limits
        with opened(path, limits) as container:
            stream = picture_stream(container, self.name, limits)
            first = next((f for _, f in decoded(container, stream, None) if f is not None), None)
            if first is None:
                raise FilmError(f"{self.name}: no frame can be read; it is damaged or cut short: fetch it again")
            self.about = describe(first, stream, container, self.name)
            self.rotation = first.rotation % 360
            self.expected = stream.frames

    def frames(self, size: tuple[int, int], after: int | None = None) -> Generator[Frame, None, None]:
        """Yield the frames, as `Film.frames`."""
        with opened(self.path, self.limits) as container:
            stream = picture_stream(container, self.name, self.limits)
            if after is not None:
                container.seek(after, stream=stream)
            says = not (stream.codec_context.has_b_frames and BY_DECODING_TIMES in container.format.name)
            with closing(decoded(container, stream, after)) as frames:
                for time, frame in frames:
                    if after is None or time > after:
                        pixels = None if frame is None else self.pixels(frame, size)
                        yield Frame(time, pixels, frame.duration if frame is not None and says else 0)

    def pixels(self, frame: VideoFrame, size: tuple[int, int]) -> Pixels:
        """Return a frame's pixels at height and width `size`, upright, in sRGB."""
        about, turned = self.about, self.rotation in (90, 270)
        width, height = size if turned else size[::-1]
        depth = ("rgba64le" if about.alpha else "rgb48le") if about.deep else "rgba" if about.alpha else "rgb24"
        found = frame.reformat(
            width,
            height,
            depth,
            src_colorspace=about.colour.matrix,
            src_color_range=2 if about.colour.full else 1,
            interpolation="BICUBIC",
        ).to_ndarray()
        if about.colour.transfer in HDR:
            found = to_sdr(found, about.colour)
        return np.ascontiguousarray(np.rot90(found, self.rotation // 90)) if self.rotation else found


def opened(path: Path, limits: Limits | None = None) -> InputContainer:
    """Open a file for reading. Raises FilmError if it is not a film, or of a format that the limits do not allow."""
    name = printable(str(path))
    try:
        options = {} if limits is None else dict(limits.opening)
        container = av.open(str(path), metadata_errors="replace", options=options)
    except ArgumentError as error:
        if limits is None:
            raise FilmError(f"{name} is not a film ({one_line(error)}); fetch it again") from error
        raise FilmError(f"{name} is not a film of an accepted format; convert it to MP4, MOV, MKV or WebM") from error
    except (FFmpegError, OSError, ValueError) as error:
        raise FilmError(f"{name} is not a film, or is cut short ({one_line(error)}); fetch it again") from error
    if any(sign in container.format.name for sign in PICTURES):
        container.close()
        raise FilmError(f"{name} is a picture, not a film; use `impasto stylize`")
    return container


def picture_stream(container: InputContainer, name: str, limits: Limits | None = None) -> VideoStream:
    """Return the film's picture stream, ready to be decoded. Raises FilmError if it has none, or it is too large."""
    streams = [s for s in container.streams.video if not s.disposition & ATTACHED]
    if not streams:
        sound = "only sound" if container.streams.audio else "nothing that can be shown"
        raise FilmError(f"{name} has no pictures, {sound}; give a film")
    stream = next((s for s in streams if s.disposition & Disposition.default), streams[0])
    if stream.codec_context is None:
        raise FilmError(f"{name}: its pictures cannot be decoded: the file is damaged or the codec unknown; convert it")
    if limits is not None:
        limits.check_frame(name, stream.codec_context.width, stream.codec_context.height)
        stream.codec_context.options = dict(limits.decoding)
    stream.thread_type = "SLICE"  # frames in threads would be reported broken at other places
    return stream


def describe(first: VideoFrame, stream: VideoStream, container: InputContainer, name: str) -> Description:
    """Return what is known of a film after its first frame."""
    aspect = stream.sample_aspect_ratio or Fraction(1)
    height, width = first.height, first.width
    if aspect > 1:
        width = round(width * aspect)
    elif 0 < aspect < 1:
        height = round(height / aspect)
    if first.rotation % 180 == 90:
        height, width = width, height
    assert stream.time_base is not None
    seconds = None
    if stream.duration:
        seconds = float(stream.duration * stream.time_base)
    elif container.duration:
        seconds = container.duration / av.time_base
    rgb = first.format.is_rgb
    matrix = BT709 if rgb else first.colorspace
    if matrix not in (1, 4, 5, 6, 7, 9, 10):
        matrix = BT709 if first.height >= HD_LINES else BT601
    colour = Colour(
        int(first.color_primaries),
        int(first.color_trc),
        BT601 if matrix == 5 else 9 if matrix == 10 else int(matrix),
        full=not rgb and (first.color_range == 2 or first.format.name.startswith("yuvj")),
    )
    components = first.format.components
    return Description(
        name=name,
        size=(height, width),
        time_base=stream.time_base,
        rate=stream.average_rate or stream.guessed_rate or Fraction(25),
        first=first.pts or 0,
        seconds=seconds,
        bits=max(c.bits for c in components),
        alpha=any(c.is_alpha for c in components) or first.format.name == "pal8",
        colour=colour,
    )


def decoded(
    container: InputContainer, stream: VideoStream, after: int | None
) -> Generator[tuple[int, VideoFrame | None], None, None]:
    """Yield the times and frames of a stream, None for a frame that cannot be decoded.

    A packet's time without a frame is a broken one: decoders return frames in the order of their times. After a seek,
    such times before the first frame are left out, since their frames need earlier ones.
    """
    decoder = stream.codec_context
    if any(k.lower() == "alpha_mode" and v == "1" for k, v in stream.metadata.items()) and decoder.name in (
        "vp8",
        "vp9",
    ):
        options = decoder.options
        decoder = av.CodecContext.create("libvpx" if decoder.name == "vp8" else "libvpx-vp9", "r")
        decoder.options = options
    waiting: list[int] = []
    last: int | None = None
    step = max(1, round(1 / ((stream.average_rate or 25) * (stream.time_base or Fraction(1, 1000)))))

    def broken(until: int | None) -> Generator[tuple[int, None], None, None]:
        nonlocal last
        while waiting and (until is None or waiting[0] < until):
            time = heapq.heappop(waiting)
            if time > last if last is not None else after is None:
                last = time
                yield time, None

    for packet in _packets(container, stream):
        if packet is not None and packet.pts is not None and not packet.is_discard:
            heapq.heappush(waiting, packet.pts)
        try:
            frames = decoder.decode(packet)
        except FFmpegError:
            continue
        for frame in frames:
            assert isinstance(frame, VideoFrame)
            time = frame.pts if frame.pts is not None else 0 if last is None else last + step
            yield from broken(time)
            while waiting and waiting[0] == time:
                heapq.heappop(waiting)
            if last is None or time > last:
                last = time
                yield time, None if frame.is_corrupt else frame
    yield from broken(None)


def _packets(container: InputContainer, stream: VideoStream) -> "Generator[av.Packet[VideoStream] | None, None, None]":
    """Yield the packets of a stream, then None. A file that is cut short ends there."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except FFmpegError:
        pass
    yield None
