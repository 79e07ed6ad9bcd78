"""How near a painting is to its style and to its content, in the features of one encoder.

Four figures, lower is better in each, over Gatys' five style layers (behind the encoder's heads, where it has them):

- `gram`: the relative distance of the Gram matrices, ||G(x) - G(s)|| / ||G(s)||, the layers' mean;
- `cov`: the same with the channel means taken off first, which is blind to a plain change of colour;
- `sliced`: the sliced 1-Wasserstein distance of the feature columns over the spread of the style's, the layers' mean
  (Heitz, Vanhoey, Chambon, Belcour, "A Sliced Wasserstein Loss for Neural Texture Synthesis", CVPR 2021, for the idea);
- `content`: ||F(x) - F(c)||^2 / ||F(c) - mean F(c)||^2 at relu4_2.

A figure alone says little. So each comes with that of the photo itself, unpainted, and that of the photo recoloured to
the style's colours, a trivial method that a real one has to beat; `over_photo` puts them in proportion.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..device import Compute, choose_compute
from ..errors import OptionError
from ..image.color import recolour
from ..image.picture import over_white
from ..image.read import read_image
from ..image.resize import resize
from ..models.moments import covariance, raw_moments
from ..models.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG
from ..models.weights import MODELS, load_encoder
from ..style.losses import content_loss
from ..train.teacher import load_teacher

LONG_SIDE, LEAST_SIDE = 512, 32
"""What a picture's sides become, in pixels, before it is judged."""
PROJECTIONS, QUANTILES = 64, 512
"""Of the sliced distance: directions, and quantiles that stand for a distribution along each."""
MOST_COLUMNS = 32768
"""Feature columns that enter the sliced distance, about: of larger layers one in so many."""
TINY = 1e-12
"""Keeps a flat style or photo from dividing by zero."""

PictureSource = str | PathLike[str] | Tensor
"""A picture's path, or the picture: (1, 3, H, W), float32, sRGB, [0, 1]."""


@dataclass(frozen=True)
class Figures:
    """The figures of one picture against its style and its content, or means of such figures."""

    gram: float
    cov: float
    sliced: float
    content: float


@dataclass(frozen=True)
class Judgement:
    """The figures of a result, of the photo itself in its place, and of the photo merely recoloured."""

    result: Figures
    photo: Figures
    recoloured: Figures


@dataclass(frozen=True)
class Measured:
    """What the judge keeps of a picture.

    Parameters
    ----------
    gram, cov : dict of str to Tensor
        Style layer -> Gram matrix per pixel and covariance behind the head, (1, C, C).
    quantiles : dict of str to Tensor
        Style layer -> quantiles of the projected feature columns, (PROJECTIONS, QUANTILES).
    content : Tensor
        Features of the content layer, (1, C, H, W).
    """

    gram: Mapping[str, Tensor]
    cov: Mapping[str, Tensor]
    quantiles: Mapping[str, Tensor]
    content: Tensor


class Judge:
    """Judges results by one encoder, in float32.

    Parameters
    ----------
    encoder : VGG
        Whose features count; a different one than the painting was made with is the fairer judge.
    compute : Compute, optional
        Where to compute, if not on the CPU.
    long_side : int
        Long side of the pictures, in pixels, as they are judged. Figures of different sizes do not compare.
    """

    def __init__(self, encoder: VGG, compute: Compute | None = None, long_side: int = LONG_SIDE):
        compute = compute or choose_compute("cpu", "float32")
        if compute.low is not None:
            raise OptionError("a judge computes in float32; choose its device with --precision float32")
        compute.network(encoder)
        self.encoder, self.compute, self.long_side = encoder, compute, long_side
        self.heads = {k: tuple(t.to(compute.device) for t in head_map(encoder, k)) for k in STYLE_LAYERS}

    def figures(self, content: PictureSource, style: PictureSource, result: PictureSource) -> Figures:
        """The figures of a result alone."""
        return self.judge(content, style, result).result

    @torch.no_grad()
    def judge(self, content: PictureSource, style: PictureSource, result: PictureSource) -> Judgement:
        """The figures of a result, of the photo and of the recoloured photo.

        Each picture is brought to 8 bits and the judge's size; then the photo to the result's height and width.

        Parameters
        ----------
        content, style, result : path or Tensor
            Pictures, in files or (1, 3, H, W), float32, sRGB, [0, 1].

        Raises
        ------
        PictureError
            If a file cannot be read.
        """
        x, s = self.picture(result), self.picture(style)
        c = resize(self.picture(content), (x.shape[-2], x.shape[-1]))
        measured_style, photo = self.measure(s), self.measure(c)
        painted, recoloured = self.measure(x), self.measure(recolour(c, s))
        return Judgement(*(distances(m, measured_style, photo) for m in (painted, photo, recoloured)))

    def picture(self, source: PictureSource) -> Tensor:
        """A picture as it is judged: (1, 3, H, W) at the judge's size, from 8 bits by Pillow's Lanczos filter."""
        x = source if isinstance(source, Tensor) else over_white(read_image(source).pixels)
        levels = (x[0].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        image = Image.fromarray(levels)
        k = self.long_side / max(image.size)
        size = (max(LEAST_SIDE, round(image.width * k)), max(LEAST_SIDE, round(image.height * k)))
        pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS), dtype=np.float32) / 255
        return torch.from_numpy(pixels).permute(2, 0, 1)[None]

    @torch.no_grad()
    def measure(self, picture: Tensor) -> Measured:
        """The features of (1, 3, H, W), float32, sRGB, [0, 1], as it is, and their statistics."""
        features = self.encoder(self.compute.picture(picture), (*STYLE_LAYERS, CONTENT_LAYER))
        content = self.encoder.wide(CONTENT_LAYER, features[CONTENT_LAYER])
        gram, cov, quantiles = {}, {}, {}
        for layer, (weight, bias) in self.heads.items():
            # The head is linear: what is behind it follows from the narrow features' moments and from narrow columns.
            moments = raw_moments(features[layer])
            v = torch.cat([weight, bias[:, None]], 1)
            gram[layer] = v @ moments @ v.t()
            cov[layer] = weight @ covariance(moments) @ weight.t()
            directions = projections(len(bias)).to(bias.device)
            quantiles[layer] = projected_quantiles(features[layer], directions @ weight, directions @ bias)
        return Measured(gram, cov, quantiles, content)


def load_judge(source: str = "compact") -> Judge:
    """A judge by the name of a registered encoder, or by the path of the teacher's file.

    Raises
    ------
    WeightsError
        If the encoder cannot be loaded.
    TrainingError
        If the file is not the teacher's.
    """
    return Judge(load_encoder(source) if source in MODELS else load_teacher(Path(source)))


def distances(x: Measured, style: Measured, content: Measured) -> Figures:
    """The figures of a picture by what was measured of it, of the style, and of the photo at the picture's size."""
    gram = [relative(x.gram[k], style.gram[k]) for k in style.gram]
    cov = [relative(x.cov[k], style.cov[k]) for k in style.cov]
    sliced = [sliced_distance(x.quantiles[k], style.quantiles[k]) for k in style.quantiles]
    return Figures(_mean(gram), _mean(cov), _mean(sliced), float(content_loss(x.content, content.content)))


def relative(matrix: Tensor, target: Tensor) -> float:
    """||M - T|| / ||T|| by the Frobenius norm."""
    return float((matrix - target).norm() / target.norm().clamp(min=TINY))


def sliced_distance(quantiles: Tensor, target: Tensor) -> float:
    """Mean 1-Wasserstein distance along the directions, over the target's own mean absolute deviation.

    Parameters
    ----------
    quantiles, target : Tensor
        (PROJECTIONS, QUANTILES), from `projected_quantiles`.
    """
    spread = (target - target.mean(1, keepdim=True)).abs().mean()
    return float((quantiles - target).abs().mean() / spread.clamp(min=TINY))


def head_map(encoder: VGG, layer: str) -> tuple[Tensor, Tensor]:
    """Weight (C', C) and bias (C',) of a layer's head; identity and zeros where it has none."""
    if layer not in encoder.heads:
        return torch.eye(encoder.width(layer)), torch.zeros(encoder.width(layer))
    head = encoder.heads[layer]
    assert isinstance(head, nn.Conv2d) and head.bias is not None
    return head.weight.detach().flatten(1), head.bias.detach()


def projections(width: int) -> Tensor:
    """Fixed random directions (PROJECTIONS, width), each of length 1, seeded by the width."""
    directions = torch.randn(PROJECTIONS, width, generator=torch.Generator().manual_seed(width))
    return directions / directions.norm(dim=1, keepdim=True)


def projected_quantiles(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Evenly spaced quantiles, from least to greatest, of feature columns along directions.

    Parameters
    ----------
    features : Tensor
        (1, C, H, W).
    weight, bias : Tensor
        (D, C) and (D,): the directions, and what is added.

    Returns
    -------
    Tensor
        (D, QUANTILES).
    """
    columns = features[0].flatten(1)  # (C, H W)
    columns = columns[:, :: max(1, columns.shape[1] // MOST_COLUMNS)]
    along = weight @ columns + bias[:, None]
    return torch.quantile(along, torch.linspace(0, 1, QUANTILES, device=along.device), dim=1).t()


def over_photo(rows: Sequence[Judgement], of: Literal["result", "recoloured"] = "result") -> Figures:
    """gram, cov and sliced over the photo's own, geometric means over the rows; of content the plain mean."""
    if not rows:
        raise OptionError("there is nothing to take the mean of; judge one result at least")

    def ratio(name: str) -> float:
        logs = [math.log(max(getattr(getattr(r, of), name), TINY) / max(getattr(r.photo, name), TINY)) for r in rows]
        return math.exp(_mean(logs))

    return Figures(ratio("gram"), ratio("cov"), ratio("sliced"), _mean([getattr(r, of).content for r in rows]))


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's rank correlation; values that are equal share the mean of their ranks. NaN if all of a side are."""
    if min(len(set(x)), len(set(y))) < 2:
        return math.nan
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    _, place, count = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown; floats with three decimals, columns that hold numbers to the right."""
    cells = [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    rules = ["--:" if any(isinstance(row[i], int | float) for row in rows) else "---" for i in range(len(header))]
    lines = [header, rules, *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
