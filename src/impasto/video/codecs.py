"""The formats and codecs in which painted films are written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..errors import OptionError
from ..image.source import printable


@dataclass(frozen=True)
class Codec:
    """A codec, or a way to keep frames without loss until the end.

    Parameters
    ----------
    encoder : str
        FFmpeg's name of the encoder.
    formats : dict of (bool, bool) to str
        Whether there is alpha and whether there are more than 8 bits -> the pixel format, where the codec has one.
    crf : int or None
        Default quality; None if it has no such setting.
    highest : int
        The worst quality.
    options : dict
        The encoder's options.
    tag : str
        How MP4 and MOV name the codec, where FFmpeg's choice is not played everywhere.
    """

    encoder: str
    formats: Mapping[tuple[bool, bool], str]
    crf: int | None = None
    highest: int = 51
    options: Mapping[str, str] = field(default_factory=dict)
    tag: str = ""

    def pixel_format(self, alpha: bool, deep: bool) -> tuple[str, bool, bool]:
        """Return the pixel format that keeps most, and whether it has alpha and more than 8 bits."""
        wanted = [(a, d) for a in (alpha, False) for d in (deep, not deep)]
        kept = next(w for w in wanted if w in self.formats)
        return self.formats[kept], *kept


PLAIN, DEEP, CUTOUT, DEEP_CUTOUT = (False, False), (False, True), (True, False), (True, True)
X264_PARAMS = {"x264-params": "asm=avx2"} if torch.backends.cpu.get_cpu_capability() == "AVX512" else {}
"""Keeps x264 from using its AVX-512 code, whose macroblock tree reads memory beyond the rows of narrow frames, so that
the same frames gave different files. AVX2 is as fast."""

CODECS = {
    "h264": Codec("libx264", {PLAIN: "yuv420p", DEEP: "yuv420p10le"}, 18, options=X264_PARAMS),
    "hevc": Codec(
        "libx265",
        {PLAIN: "yuv420p", DEEP: "yuv420p10le"},
        20,
        options={"x265-params": "log-level=none"},
        tag="hvc1",
    ),
    "vp9": Codec(
        "libvpx-vp9",
        {PLAIN: "yuv420p", CUTOUT: "yuva420p"},
        24,
        63,
        {"b": "0", "deadline": "good", "cpu-used": "3", "row-mt": "1"},
    ),
    "av1": Codec("libsvtav1", {PLAIN: "yuv420p", DEEP: "yuv420p10le"}, 26, 63, {"preset": "7"}),
    "prores": Codec("prores_ks", {DEEP: "yuv422p10le", DEEP_CUTOUT: "yuva444p10le"}),
}
LOSSLESS = Codec("ffv1", {PLAIN: "bgr0", CUTOUT: "bgra"})
"""Keeps the frames of formats that are written as a whole at the end."""


@dataclass(frozen=True)
class Format:
    """A format of films.

    Parameters
    ----------
    name : str
        FFmpeg's name; empty for a folder of pictures.
    codecs : tuple of str
        The codecs that it can hold, the default first; none for those that have only one way.
    """

    name: str
    codecs: tuple[str, ...] = ()


FORMATS = {
    ".mp4": Format("mp4", ("h264", "hevc", "av1", "vp9")),
    ".m4v": Format("mp4", ("h264", "hevc")),
    ".mov": Format("mov", ("h264", "hevc", "prores")),
    ".mkv": Format("matroska", ("h264", "hevc", "av1", "vp9", "prores")),
    ".webm": Format("webm", ("vp9", "av1")),
    ".gif": Format("gif"),
    ".webp": Format("webp"),
    ".png": Format(""),
}


@dataclass(frozen=True)
class Target:
    """Where a painted film is written, and how.

    Parameters
    ----------
    path : Path
        The file; for a folder of pictures, the pattern of their names, such as `frames/%05d.png`.
    format : Format
        Its format.
    codec : Codec or None
        The codec; None for a folder of pictures.
    crf : int or None
        The quality.
    hdr : bool
        Whether a film with a high dynamic range is written with that range.
    """

    path: Path
    format: Format
    codec: Codec | None
    crf: int | None = None
    hdr: bool = False

    @property
    def frames(self) -> bool:
        """Whether it is a folder of pictures."""
        return not self.format.name

    @property
    def sound(self) -> bool:
        """Whether it can hold sound and subtitles."""
        return bool(self.format.codecs)

    @property
    def place(self) -> Path:
        """The file or folder that results."""
        return self.path.parent if self.frames else self.path


def find_target(path: Path, codec: str, crf: int | None, hdr: bool = False) -> Target:
    """Return how to write a file.

    Raises
    ------
    OptionError
        If the suffix is unknown, or does not go with the codec, the pattern or the quality.
    """
    name, suffix = printable(str(path)), path.suffix.lower()
    if suffix not in FORMATS:
        raise OptionError(f"--out {name}: the suffix must be one of {', '.join(FORMATS)}")
    found = FORMATS[suffix]
    if not found.name and not _is_pattern(path):
        raise OptionError(f"--out {name}: give a pattern for the frames' names, such as frames/%05d.png")
    if hdr and not found.codecs:
        raise OptionError(f"--keep-hdr: {suffix} output has no such range; choose another suffix")
    if not found.codecs:
        if codec != "auto" or crf is not None:
            option = "--crf" if codec == "auto" else "--codec"
            raise OptionError(f"{option} has no effect on {suffix} output; leave it out, or choose another suffix")
        return Target(path, found, LOSSLESS if found.name else None)
    chosen = found.codecs[0] if codec == "auto" else codec
    if chosen not in found.codecs:
        raise OptionError(f"--codec {codec}: {suffix} cannot hold it; choose from {', '.join(found.codecs)}")
    how = CODECS[chosen]
    if crf is not None and (how.crf is None or crf > how.highest):
        what = "has no such setting" if how.crf is None else f"goes from 0 to {how.highest}"
        raise OptionError(f"--crf {crf}: {chosen} {what}")
    if hdr and DEEP not in how.formats:
        raise OptionError(
            f"--keep-hdr: {chosen} is written with 8 bits; choose another --codec, such as {_deep(found)}"
        )
    return Target(path, found, how, how.crf if crf is None else crf, hdr)


def _deep(of: Format) -> str:
    """Return the codecs of a format that have more than 8 bits."""
    return " or ".join(name for name in of.codecs if DEEP in CODECS[name].formats)


def _is_pattern(path: Path) -> bool:
    try:
        return path.name % 1 != path.name % 2 and path.parent != Path()
    except (TypeError, ValueError):
        return False
