"""Options for `video`, which paints films."""

import math
import re
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro
from typing_extensions import Doc

from ..errors import OptionError
from ..ranges import Range, check_ranges
from .groups import (
    LOOK,
    SIZE,
    BlendOptions,
    ColourOptions,
    MachineOptions,
    NetworkOptions,
    Options,
    SteadyOptions,
    names_of,
)
from .kinds import INT, LARGEST_SIZE, LEAST_SIZE, NUMBER, TIME, Group, parse_seconds
from .optimize import OptimizeOptions
from .stylize import StylizeOptions

Codec = Literal["auto", "h264", "hevc", "vp9", "av1", "prores"]
FilmQuality = Literal["instant", "good"]
FILM = Group("film")


def split_keys(texts: list[str]) -> tuple[str, ...]:
    """Split `0s:udnie,8s:a.jpg` at the commas before times."""
    return tuple(t for t in re.split(r",(?=[0-9.]+[smh]?:)", texts[0]) if t)


KEYS = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="KEYS",
    instance_from_str=split_keys,
    is_instance=lambda v: isinstance(v, tuple),
    str_from_instance=lambda keys: [",".join(keys)],
)


@dataclass(frozen=True)
class VideoOptions(MachineOptions, NetworkOptions, BlendOptions, ColourOptions, SteadyOptions, Options):
    """Options for `video`."""

    quality: Annotated[
        FilmQuality,
        Doc(
            "How to paint the frames. `instant`: one pass of a network each. `good`: optimise each, beginning with the "
            "last painting, moved along; slow, but best."
        ),
        LOOK,
    ] = "instant"
    size: Annotated[
        int | None,
        INT,
        Doc("Long side of the painted film. Default: the film's own, up to 1280."),
        Range(LEAST_SIZE, LARGEST_SIZE, "px"),
        SIZE,
    ] = None
    strength: Annotated[
        tuple[str, ...],
        KEYS,
        tyro.conf.arg(metavar="NUMBER|TIME:NUMBER[,...]"),
        Doc("How strongly to apply the style (0 to 1.5): one number, or key frames such as `0s:0 4s:1`."),
        LOOK,
    ] = ("1",)
    styles_at: Annotated[
        tuple[str, ...],
        KEYS,
        tyro.conf.arg(metavar="TIME:STYLE[,...]"),
        Doc("Styles that change over time, instead of STYLE: `0s:udnie 8s:starry-night`. Blended in between."),
        LOOK,
    ] = ()
    start: Annotated[
        float | None, TIME, Doc("Begin at this time of the film, such as 12s."), Range(0, 1e7, "s"), FILM
    ] = None
    end: Annotated[float | None, TIME, Doc("End at this time of the film."), Range(0, 1e7, "s"), FILM] = None
    fps: Annotated[
        float | None,
        NUMBER,
        Doc("Frames a second of the painted film. Default: the film's own frames, each at its own time."),
        Range(0.01, 1000),
        FILM,
    ] = None
    codec: Annotated[
        Codec,
        Doc("How the pictures are encoded. `auto`: h264, or what the output's suffix asks for (.webm: vp9)."),
        FILM,
    ] = "auto"
    crf: Annotated[
        int | None,
        INT,
        Doc("Quality of the encoding: lower is better and larger. Default: 18 (h264), 20 (hevc), 24 (vp9), 26 (av1)."),
        Range(0, 63),
        FILM,
    ] = None

    keep_hdr: Annotated[
        bool,
        Doc("Keep the high dynamic range of the film (PQ or HLG), with 10 bits, instead of mapping it to BT.709."),
        FILM,
    ] = False

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise OptionError(f"--end {self.end:g}s is not after --start {self.start:g}s; give a later end")
        if self.crf is not None and self.codec == "prores":
            raise OptionError("--crf has no effect on ProRes, whose quality is fixed; leave it out")
        if self.styles_at and self.style_weights:
            raise OptionError("--styles-at and --style-weights cannot be combined; leave out one")
        if self.quality != "instant":
            for name in ("model", "learn"):
                if getattr(self, name):
                    raise OptionError(f"--{name} is for the network; leave it out, or leave out --quality")
        _ = self.strengths, self.style_times

    @property
    def strengths(self) -> tuple[tuple[float, float], ...]:
        """The key frames of the strength: times in seconds and values, in the order of time."""
        if len(self.strength) == 1 and ":" not in self.strength[0]:
            frames = [(0.0, self.strength[0])]
        else:
            frames = key_frames(self.strength, "--strength")
        return tuple((time, _strength(text)) for time, text in frames)

    @property
    def style_times(self) -> tuple[tuple[float, str], ...]:
        """The key frames of the style: times in seconds and styles, in the order of time."""
        return tuple(key_frames(self.styles_at, "--styles-at"))

    @property
    def painting(self) -> StylizeOptions:
        """The options of the network that paints the frames at the size that they have.

        The strength is 1 if it changes over time. Nothing is mottled, since that would stay in place when the camera
        moves, and nothing is underpainted.
        """
        strength = self.strengths[0][1] if len(self.strengths) == 1 else 1.0
        shared = names_of(BlendOptions, NetworkOptions, MachineOptions)
        named = {name: getattr(self, name) for name in shared}
        named |= {"strength": strength, "scale": 1.0, "mottle": 0.0, "underpainting": 0.0}
        return StylizeOptions(method="network", quality="instant", **named)

    @property
    def optimising(self) -> OptimizeOptions:
        """The options of the optimisation that paints the frames at the size that they have, at strength 1."""
        named = {name: getattr(self, name) for name in names_of(BlendOptions, MachineOptions)}
        return OptimizeOptions(quality="good", scale=1.0, mottle=0.0, **named)


def key_frames(texts: tuple[str, ...], option: str) -> list[tuple[float, str]]:
    """Parse `0s:udnie`, `8s:starry-night` as [(0.0, "udnie"), (8.0, "starry-night")].

    Raises
    ------
    OptionError
        If a text is not of that form, or the times do not increase.
    """
    found: list[tuple[float, str]] = []
    for text in texts:
        time, colon, value = text.partition(":")
        try:
            seconds = parse_seconds([time])
        except ValueError:
            seconds = math.nan
        if not (colon and value and math.isfinite(seconds)):
            raise OptionError(f"{option} {text}: give a time and what applies then, such as 8s:{_example(option)}")
        if found and seconds <= found[-1][0]:
            raise OptionError(f"{option} {text}: the times must increase; put the key frames in order")
        found.append((seconds, value))
    return found


def _example(option: str) -> str:
    return "0.5" if option == "--strength" else "udnie"


def _strength(text: str) -> float:
    if not re.fullmatch(r"[0-9]*\.?[0-9]+", text) or float(text) not in Range(0, 1.5):
        raise OptionError(f"--strength {text}: give a number from 0 to 1.5, or key frames such as 0s:0 4s:1")
    return float(text)
