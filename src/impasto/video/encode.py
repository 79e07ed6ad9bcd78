"""Encoding painted frames, a segment of the film at a time, each into a file of its own."""

import logging
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from ..errors import FilmError
from ..image.source import one_line
from ..image.write import Companions, encode
from .codecs import Codec, Target
from .film import Colour, Description, Pixels
from .hdr import HDR, from_sdr

log = logging.getLogger(__name__)

HIGHEST_RATE = Fraction(240)
"""The highest rate that encoders are told; it affects only how they share out bits."""
OFFSET = 100
"""Added to the number of a frame for its time in a segment's file, so that packets can be decoded before it."""
SDR = Colour(1, 1, 1)
"""The signal of films that were HDR."""


def written_colour(about: Description, hdr: bool = False) -> Colour:
    """Return how the painted film's signal stands for colours. With `hdr`, a high dynamic range is kept."""
    return SDR if about.colour.transfer in HDR and not hdr else about.colour


class SegmentEncoder:
    """Encodes a segment into a Matroska file, in which a frame's time is its number.

    Matroska rounds times to milliseconds, so the exact ones are kept elsewhere and set at the end.

    Parameters
    ----------
    path : Path
        The file to write.
    target : Target
        How to encode.
    about : Description
        The film.
    size : (int, int)
        Height and width of the frames.
    """

    def __init__(self, path: Path, target: Target, about: Description, size: tuple[int, int]):
        assert target.codec is not None
        codec: Codec = target.codec
        self.path, self.about, self.colour = path, about, written_colour(about, target.hdr)
        self.format, self.alpha, self.deep = codec.pixel_format(about.alpha, about.deep or self.colour.transfer in HDR)
        self.rgb = codec.formats.get((False, False)) == "bgr0"
        options = dict(codec.options)
        if target.crf is not None:
            options["crf"] = str(target.crf)
        self.container = av.open(str(path), "w", format="matroska")
        stream = self.container.add_stream(codec.encoder, rate=min(about.rate, HIGHEST_RATE), options=options)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = size
        stream.pix_fmt = self.format
        stream.codec_context.time_base = about.time_base
        if not self.rgb:
            stream.color_primaries, stream.color_trc = self.colour.primaries, self.colour.transfer
            stream.colorspace, stream.color_range = self.colour.matrix, 2 if self.colour.full else 1
        if self.deep and codec.encoder == "prores_ks" and self.alpha:
            stream.codec_context.profile = "4444"
        self.stream, self.numbers, self.packets = stream, dict[int, int](), 0

    def add(self, time: int, pixels: Pixels, duration: int) -> None:
        """Encode a frame, shown at a time in the film's time base."""
        if self.colour.transfer in HDR:
            pixels = from_sdr(as_uint16(pixels), self.colour)
        frame = VideoFrame.from_ndarray(_with_channels(pixels, self.alpha), _array_format(pixels.dtype, self.alpha))
        if not self.rgb:
            frame = frame.reformat(
                format=self.format,
                dst_colorspace=self.colour.matrix,
                dst_color_range=2 if self.colour.full else 1,
                interpolation="BICUBIC",
            )
            frame.color_primaries, frame.color_trc = self.colour.primaries, self.colour.transfer
            frame.colorspace, frame.color_range = self.colour.matrix, 2 if self.colour.full else 1
        else:
            frame = frame.reformat(format=self.format)
        frame.pts, frame.time_base = time, self.about.time_base
        if duration:
            frame.duration = duration
        self.numbers[time] = len(self.numbers)
        try:
            self._write(self.stream.encode(frame))
        except FFmpegError as error:
            height, width = pixels.shape[:2]
            advice = "choose another --codec or --size"
            raise FilmError(
                f"{self.stream.name} cannot encode {width}x{height} ({one_line(error)}); {advice}"
            ) from error

    def close(self) -> None:
        """Finish the file."""
        try:
            if self.numbers:
                self._write(self.stream.encode())
        finally:
            self.container.close()

    def _write(self, packets: Sequence[av.Packet]) -> None:
        for packet in packets:
            assert packet.pts is not None
            time = Fraction(packet.pts) * packet.time_base / self.about.time_base
            packet.pts, packet.dts = self.numbers[round(time)] + OFFSET, self.packets
            packet.duration, packet.time_base = 1, Fraction(1, 1000)
            self.packets += 1
            self.container.mux(packet)


class FrameWriter:
    """Writes the frames of a segment as PNG files.

    Parameters
    ----------
    folder : Path
        The folder.
    pattern : str
        The pattern of the files' names.
    first : int
        Number of the first frame.
    """

    def __init__(self, folder: Path, pattern: str, first: int):
        self.folder, self.pattern, self.number = folder, pattern, first

    def add(self, time: int, pixels: Pixels, duration: int) -> None:
        """Write a frame."""
        self.number += 1
        name = self.pattern % self.number
        (self.folder / name).write_bytes(encode(pixels, "PNG", 100, Companions(), name))

    def close(self) -> None:
        """Do nothing: each file is complete."""


def as_uint16(pixels: Pixels) -> Pixels:
    """Return pixels with 16 bits per sample."""
    return pixels if pixels.dtype == np.uint16 else pixels.astype(np.uint16) * np.uint16(257)


def _array_format(dtype: np.dtype, alpha: bool) -> str:
    if dtype == np.uint8:
        return "rgba" if alpha else "rgb24"
    return "rgba64le" if alpha else "rgb48le"


def _with_channels(pixels: Pixels, alpha: bool) -> Pixels:
    """Return pixels with or without alpha: over white where it is lost, opaque where there was none."""
    top = np.iinfo(pixels.dtype).max
    if pixels.shape[2] == 4 and not alpha:
        shown = pixels[..., 3:].astype(np.float32) / top
        over = top + shown * (pixels[..., :3].astype(np.float32) - top)
        return np.ascontiguousarray((over + 0.5).astype(pixels.dtype))
    if pixels.shape[2] == 3 and alpha:
        return np.concatenate([pixels, np.full((*pixels.shape[:2], 1), top, pixels.dtype)], 2)
    return pixels


def palette_frame(pixels: Pixels) -> VideoFrame:
    """Return pixels (H, W, 3 or 4), uint8, in 256 colours of their own, one of them transparent if there is alpha."""
    image = Image.fromarray(np.ascontiguousarray(pixels[..., :3])).quantize(255, dither=Image.Dither.FLOYDSTEINBERG)
    known = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
    palette = np.zeros((256, 4), np.uint8)  # alpha, red, green, blue
    palette[: len(known), 1:], palette[:255, 0] = known, 255
    indices = np.array(image, np.uint8)
    if pixels.shape[2] == 4:
        indices[pixels[..., 3] < 128] = 255
    return VideoFrame.from_ndarray((indices, palette), "pal8")  # type: ignore[arg-type]
