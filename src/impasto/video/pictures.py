"""Films that are pictures: a folder with a picture for each frame, and animated WebP."""

import csv
from collections.abc import Generator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ..errors import FilmError, ImpastoError
from ..image.read import read_image
from ..image.resize import resize
from ..image.source import decoding, printable
from .film import Description, Frame, to_pixels
from .limits import Limits

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".avif", ".heic")
"""Suffixes of a folder's files that count as frames."""
TIMES = "times.csv"
"""File with a row for each picture of a folder: its name, and the seconds at which it is shown."""
RATE = 25.0
"""Pictures a second of a folder that does not state its rate."""
MICROSECONDS = Fraction(1, 1_000_000)


class FolderFilm:
    """A folder with a picture for each frame, in the order of their names.

    Parameters
    ----------
    path : Path
        The folder. The file `times.csv`, which painted folders have, says when each picture is shown.
    fps : float, optional
        Pictures a second where there is no such file.

    Raises
    ------
    FilmError
        If the folder has no pictures, or its times are damaged.
    """

    def __init__(self, path: Path, fps: float | None = None):
        self.name = printable(str(path))
        self.paths = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
        if not self.paths:
            raise FilmError(f"{self.name} has no pictures; give a folder with one for each frame, or a film")
        rate = Fraction(fps or RATE).limit_denominator(1001)
        base, self.times = 1 / rate, list(range(len(self.paths)))
        if fps is None and (path / TIMES).is_file():
            base, self.times = MICROSECONDS, self._times(path / TIMES)
            if len(self.times) > 1:
                rate = Fraction(len(self.times) - 1, max(1, self.times[-1] - self.times[0])) / base
        first = self._read(self.paths[0])
        step = (1 / rate) / base
        self.about = Description(
            self.name,
            (first.shape[2], first.shape[3]),
            base,
            rate,
            self.times[0],
            float((self.times[-1] - self.times[0] + step) * base),
            16 if read_image(self.paths[0]).metadata.bits > 8 else 8,
            first.shape[1] == 4,
        )

    def _times(self, path: Path) -> list[int]:
        """Return the time of each picture in microseconds."""
        try:
            with path.open(newline="", encoding="utf-8") as file:
                known = {row["name"]: round(float(row["seconds"]) * 1_000_000) for row in csv.DictReader(file)}
            times = [known[p.name] for p in self.paths]
        except (KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
            raise FilmError(f"{path} is damaged; delete it to show the pictures at --fps") from error
        if any(b <= a for a, b in pairwise(times)):
            raise FilmError(f"{path}: the times do not increase; delete it to show the pictures at --fps")
        return times

    def _read(self, path: Path) -> Tensor:
        return read_image(path).pixels

    def frames(self, size: tuple[int, int], after: int | None = None) -> Generator[Frame, None, None]:
        """Yield the frames, as `Film.frames`. A picture that cannot be read is a broken frame."""
        dtype, channels = (np.uint16 if self.about.deep else np.uint8), 4 if self.about.alpha else 3
        ends = [*self.times[1:], self.times[-1] + round(1 / (self.about.rate * self.about.time_base))]
        for path, time, end in zip(self.paths, self.times, ends, strict=True):
            if after is not None and time <= after:
                continue
            try:
                picture = resize(self._read(path), size)
            except ImpastoError:
                yield Frame(time, None, end - time)
                continue
            pixels = to_pixels(picture, dtype)
            yield Frame(time, _channels(pixels, channels), end - time)


class AnimatedFilm:
    """An animated WebP, which PyAV does not read.

    Parameters
    ----------
    path : Path
        The file.
    limits : Limits, optional
        Those of a stranger's film.

    Raises
    ------
    FilmError
        If it is not animated, or beyond the limits.
    PictureError
        If it is damaged.
    """

    def __init__(self, path: Path, limits: Limits | None = None):
        self.path, self.name = path, printable(str(path))
        with decoding(self.name), Image.open(path) as image:
            count = getattr(image, "n_frames", 1)
            if limits is not None:
                limits.check_frame(self.name, image.width, image.height)
                if count > limits.frames:
                    raise FilmError(limits.too_many(self.name, str(count)))
            if count == 1:
                raise FilmError(f"{self.name} is a picture, not a film; use `impasto stylize`")
            image.seek(count - 1)
            image.load()
            end = int(image.info.get("timestamp", 0)) + int(image.info.get("duration", 0))
            alpha = image.mode == "RGBA"
        base = Fraction(1, 1000)
        rate = Fraction(1000 * count, max(1, end))
        self.about = Description(self.name, (image.height, image.width), base, rate, 0, end / 1000, 8, alpha)

    def frames(self, size: tuple[int, int], after: int | None = None) -> Generator[Frame, None, None]:
        """Yield the frames, as `Film.frames`."""
        with decoding(self.name), Image.open(self.path) as image:
            time = 0
            for number in range(getattr(image, "n_frames", 1)):
                image.seek(number)
                image.load()
                duration = max(1, int(image.info.get("duration", 0)))
                if after is None or time > after:
                    shown = image.convert("RGBA" if self.about.alpha else "RGB")
                    if shown.size != (size[1], size[0]):
                        shown = shown.resize((size[1], size[0]), Image.Resampling.LANCZOS)
                    yield Frame(time, np.asarray(shown), duration)
                time += duration


def _channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Return pixels with 3 or 4 channels; missing alpha is opaque."""
    if pixels.shape[2] > channels:
        return np.ascontiguousarray(pixels[..., :channels])
    if pixels.shape[2] < channels:
        opaque = np.full((*pixels.shape[:2], 1), np.iinfo(pixels.dtype).max, pixels.dtype)
        return np.concatenate([pixels, opaque], 2)
    return pixels


def write_times(path: Path, names: Sequence[str], seconds: Sequence[float]) -> None:
    """Write `times.csv` into a folder of frames."""
    with (path / TIMES).open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["name", "seconds"])
        rows.writerows([name, f"{time:.6f}"] for name, time in zip(names, seconds, strict=True))
