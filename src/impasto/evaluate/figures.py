"""The figures of one painting, of the pictures it lies between, and what each figure is."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ..image.color import recolour
from ..image.picture import over_white
from ..image.read import read_image
from ..image.resize import resize
from ..tools.metrics import Judge, Measured, distances
from .frechet import sifid
from .lpips import LPIPS
from .pairs import Triple
from .pixels import lattice, ms_ssim, noise, palette, palette_distance, ssim

KEPT = 16
"""Photographs and styles whose measurements are cached: about 4 MB each at 512 pixels."""

Values = dict[str, float]
"""Figure -> value."""


@dataclass(frozen=True)
class Figure:
    """What a figure is.

    Parameters
    ----------
    title : str
        Its name for people.
    to : str
        What the painting is compared with.
    lower : bool
        Whether lower is better.
    """

    title: str
    to: str
    lower: bool = True


FIGURES = {
    "gram": Figure("Gram distance to the style", "style"),
    "cov": Figure("covariance distance to the style", "style"),
    "sliced": Figure("sliced distance to the style", "style"),
    "sifid": Figure("Fréchet distance to the style", "style"),
    "palette": Figure("distance to the style’s colours", "style"),
    "content": Figure("content distance to the photograph", "photograph"),
    "ssim": Figure("structural similarity to the photograph", "photograph", lower=False),
    "ms_ssim": Figure("multi-scale similarity to the photograph", "photograph", lower=False),
    "palette_photo": Figure("distance to the photograph’s colours", "photograph"),
    "lpips": Figure("perceptual distance to the photograph", "photograph"),
    "noise": Figure("fine texture of neither, in percent", "both"),
    "lattice": Figure("regular strokes in plain areas, in percent", "photograph"),
}
"""Name -> figure, in the order of tables. `lpips` is computed only if its weights are given."""


@dataclass(frozen=True)
class Evaluation:
    """Figures of a result, and of three pictures that bound it.

    Parameters
    ----------
    result : dict
        Figures of the result.
    photo : dict
        Those of the photograph itself: the content kept in full, the style missed.
    recoloured : dict
        Those of the photograph in the style's mean colour and covariance of colours, a trivial baseline.
    style : dict
        Those of the style picture itself: the style met in full, the content missed.
    """

    result: Values
    photo: Values
    recoloured: Values
    style: Values


ROWS = {"result": "result", "photo": "photograph", "recoloured": "recoloured", "style": "style"}
"""Field of `Evaluation` -> its name in tables."""


@dataclass(frozen=True, eq=False)
class Seen:
    """A picture with the measurements that do not depend on another picture.

    Parameters
    ----------
    picture : Tensor
        (1, 3, H, W), float32, sRGB, [0, 1], at the judge's size.
    measured : Measured
        By the judge.
    colours : Tensor
        From `pixels.palette`.
    """

    picture: Tensor
    measured: Measured
    colours: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.picture.shape[-2], self.picture.shape[-1]


class Evaluator:
    """Computes all figures of paintings. Caches what it measures of photographs and styles.

    Parameters
    ----------
    judge : Judge
        Measures features.
    lpips : LPIPS, optional
        Computes LPIPS too.
    """

    def __init__(self, judge: Judge, lpips: LPIPS | None = None):
        self.judge, self.lpips = judge, lpips
        self.picture = lru_cache(KEPT)(self._picture)
        self.style = lru_cache(KEPT)(self._style)
        self.photo = lru_cache(KEPT)(self._photo)

    @property
    def names(self) -> tuple[str, ...]:
        """The figures that are computed, in the order of tables."""
        return tuple(name for name in FIGURES if name != "lpips" or self.lpips is not None)

    @torch.no_grad()
    def evaluate(self, triple: Triple) -> Evaluation:
        """Return the figures of a result. Every picture is judged at the judge's long side, over white.

        The photograph is resized to the result's size. Raises PictureError if a file cannot be read.
        """
        style = self.style(triple.style)
        result = self._seen(self.picture(triple.result))
        photo = self.photo(triple.content, result.size)
        recoloured = self._seen(recolour(photo.picture, style.picture))
        return Evaluation(
            self.compare(result, style, photo),
            self.compare(photo, style, photo),
            self.compare(recoloured, style, photo),
            self.compare(style, style, self.photo(triple.content, style.size)),
        )

    def compare(self, x: Seen, style: Seen, photo: Seen) -> Values:
        """Return the figures of a picture against a style, and against a photograph of the picture's size."""
        features = distances(x.measured, style.measured, photo.measured)
        values = {
            "gram": features.gram,
            "cov": features.cov,
            "sliced": features.sliced,
            "sifid": sifid(x.measured, style.measured),
            "palette": palette_distance(x.colours, style.colours),
            "content": features.content,
            "ssim": ssim(x.picture, photo.picture),
            "ms_ssim": ms_ssim(x.picture, photo.picture),
            "palette_photo": palette_distance(x.colours, photo.colours),
            "noise": noise(x.picture, photo.picture, style.picture),
            "lattice": lattice(x.picture, photo.picture),
        }
        if self.lpips is not None:
            values["lpips"] = self.lpips(x.picture, photo.picture) if x is not photo else 0.0
        return {name: values[name] for name in self.names}

    def _picture(self, path: Path) -> Tensor:
        return self.judge.picture(over_white(read_image(path).pixels))

    def _seen(self, picture: Tensor) -> Seen:
        return Seen(picture, self.judge.measure(picture), palette(picture))

    def _style(self, path: Path) -> Seen:
        return self._seen(self.picture(path))

    def _photo(self, path: Path, size: tuple[int, int]) -> Seen:
        return self._seen(resize(self.picture(path), size))
