"""Fixtures for films: small films made with PyAV, and what a film contains."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

av = pytest.importorskip("av", reason="needs the extra video")
pytest.importorskip("cv2", reason="needs the extra video")

SIZE = (48, 64)
"""Height and width of the films, in pixels."""


@dataclass(frozen=True)
class Recipe:
    """The recipe of a film. Times are in milliseconds."""

    name: str = "film.mkv"
    codec: str = "libx264"
    pixels: str = "yuv420p"
    times: tuple[int, ...] = tuple(range(0, 240, 40))
    size: tuple[int, int] = SIZE
    rate: Fraction = Fraction(25)
    base: Fraction = Fraction(1, 1000)
    audio: tuple[str, ...] = ()
    subtitles: bool = False
    rotation: int = 0
    aspect: Fraction | None = None
    options: dict[str, str] = field(default_factory=dict)
    colour: tuple[int, int, int, int] | None = None
    alpha: bool = False


def picture(number: int, size: tuple[int, int] = SIZE) -> Any:
    """Return a frame (H, W, 4), uint8: a red top left corner and a moving green bar on a blue ramp."""
    height, width = size
    found = np.zeros((height, width, 4), np.uint8)
    found[..., 2] = np.linspace(40, 220, width)[None]
    found[: height // 4, : width // 4] = (230, 20, 20, 0)
    begin = (4 + 2 * number) % max(1, width - 8)
    found[height // 2 : -height // 8, begin : begin + 8, 1] = 200
    found[..., 3] = 255
    return found


def make_film(folder: Path, recipe: Recipe) -> Path:
    """Write a film and return its path."""
    path = folder / recipe.name
    with av.open(str(path), "w") as out:
        stream = out.add_stream(recipe.codec, rate=recipe.rate, options=recipe.options)
        stream.height, stream.width = recipe.size
        stream.pix_fmt = recipe.pixels
        stream.codec_context.time_base = recipe.base
        if recipe.rotation:
            stream.set_display_rotation(recipe.rotation)
        if recipe.aspect:
            stream.codec_context.sample_aspect_ratio = recipe.aspect
        if recipe.colour:
            stream.color_primaries, stream.color_trc, stream.colorspace, stream.color_range = recipe.colour
        sounds = []
        for codec in recipe.audio:
            sound = out.add_stream(codec, rate=48000, layout="mono")
            sounds.append((sound, av.AudioResampler(sound.codec_context.format, "mono", 48000)))
        text = out.add_mux_stream("subrip") if recipe.subtitles else None
        step = max(1, round(1 / (recipe.rate * recipe.base)))
        for number, time in enumerate(recipe.times):
            pixels = picture(number, recipe.size)
            if recipe.alpha:
                pixels[:, recipe.size[1] // 2 :, 3] = 0
            frame = av.VideoFrame.from_ndarray(pixels, "rgba").reformat(
                format=recipe.pixels, **({"dst_colorspace": recipe.colour[2]} if recipe.colour else {})
            )
            frame.pts, frame.time_base, frame.duration = time, recipe.base, step
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
        for at in range(0, 11520, 1152):
            wave = (8000 * np.sin(np.arange(at, at + 1152) / 17)).astype(np.int16)[None]
            for sound, resampler in sounds:
                frame = av.AudioFrame.from_ndarray(wave, "s16", "mono")
                frame.sample_rate, frame.pts, frame.time_base = 48000, at, Fraction(1, 48000)
                for resampled in resampler.resample(frame):
                    out.mux(sound.encode(resampled))
        for sound, _ in sounds:
            out.mux(sound.encode())
        if text is not None:
            for begin in (0, 120):
                packet = av.Packet(f"At {begin}".encode())
                packet.stream, packet.time_base = text, Fraction(1, 1000)
                packet.pts = packet.dts = begin
                packet.duration = 100
                out.mux(packet)
    return path


@dataclass(frozen=True)
class Contents:
    """The contents of a film."""

    times: list[Fraction]
    pictures: list[Any]
    packets: list[list[bytes]]
    codec: str
    pixels: str
    colour: tuple[int, int, int, int]
    end: float


def contents(path: Path) -> Contents:
    """Read a film: the times of its frames in seconds, its frames (H, W, 4), and the packets of its other streams."""
    with av.open(str(path)) as film:
        stream = film.streams.video[0]
        decoder = stream.codec_context
        if stream.metadata.get("alpha_mode") == "1":
            decoder = av.CodecContext.create("libvpx-vp9", "r")
        times, pictures, pixels, colour, end = [], [], "", (0, 0, 0, 0), 0.0
        for packet in film.demux(stream):
            for frame in decoder.decode(packet if packet.size else None):
                times.append(frame.pts * stream.time_base)
                pictures.append(frame.to_ndarray(format="rgba"))
                pixels = frame.format.name
                colour = (frame.color_primaries, frame.color_trc, frame.colorspace, frame.color_range)
                end = float((frame.pts + frame.duration) * stream.time_base)
        if path.suffix in (".mp4", ".mov") and stream.duration:  # a frame's duration is there a step of decoding times
            end = float(((stream.start_time or 0) + stream.duration) * stream.time_base)
        codec = decoder.codec.canonical_name
    with av.open(str(path)) as film:
        others = [s for s in film.streams if s.type in ("audio", "subtitle")]
        packets: list[list[bytes]] = [[] for _ in others]
        for packet in film.demux(others) if others else ():
            if packet.size:
                packets[others.index(packet.stream)].append(bytes(packet))
    return Contents(times, pictures, packets, codec, pixels, colour, end)


@pytest.fixture
def film(tmp_path: Path) -> Callable[..., Path]:
    """Return `film(name="a.mp4", times=(0, 40))`: the path of a new film; the arguments are those of `Recipe`."""
    return lambda **recipe: make_film(tmp_path, Recipe(**recipe))


@pytest.fixture
def held() -> Callable[[Path], Contents]:
    """Return `held(path)`: the contents of a film."""
    return contents


@pytest.fixture
def drawn() -> Callable[..., Any]:
    """Return `drawn(3)`: frame number 3 of every film, (48, 64, 4), uint8."""
    return picture


@pytest.fixture
def still_frames() -> Callable[[Any, int], Sequence[Any]]:
    """Return `still_frames(pixels, 5)`: that many equal frames."""
    return lambda pixels, count: [pixels] * count
