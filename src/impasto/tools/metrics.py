"""Measure how close a painting is to its style and its content, in the features of one encoder.

There are four figures, lower is better, over Gatys' five style layers (after the encoder's heads, if it has any):

- `gram`: relative distance of the Gram matrices, ||G(x) - G(s)|| / ||G(s)||, averaged over the layers.
- `cov`: the same after subtracting the channel means, so it does not see a plain change of colour.
- `sliced`: sliced 1-Wasserstein distance of the feature columns relative to the spread of the style's, averaged over
  the layers (after Heitz, Vanhoey, Chambon, Belcour, "A Sliced Wasserstein Loss for Neural Texture Synthesis", CVPR
  2021).
- `content`: ||F(x) - F(c)||^2 / ||F(c) - mean F(c)||^2 at relu4_2.

Each figure is also computed for the unpainted photo and for the photo recoloured to the style's colours, a trivial
baseline. `over_photo` divides the figures by the photo's.
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
"""Long side and minimum side of pictures in pixels when they are judged."""
PROJECTIONS, QUANTILES = 64, 512
"""Number of directions of the sliced distance, and of quantiles along each."""
MOST_COLUMNS = 32768
"""Approximate maximum number of feature columns in the sliced distance. Larger layers are subsampled."""
TINY = 1e-12
"""Prevents division by zero for a flat style or photo."""

PictureSource = str | PathLike[str] | Tensor
"""A picture's path, or the picture: (1, 3, H, W), float32, sRGB, [0, 1]."""


@dataclass(frozen=True)
class Figures:
    """Figures of one picture against its style and its content, or means of such figures."""

    gram: float
    cov: float
    sliced: float
    content: float


@dataclass(frozen=True)
class Judgement:
    """Figures of a result, of the unpainted photo and of the recoloured photo."""

    result: Figures
    photo: Figures
    recoloured: Figures


@dataclass(frozen=True)
class Measured:
    """Measurements of a picture by the judge.

    Parameters
    ----------
    gram, cov : dict of str to Tensor
        Style layer -> Gram matrix per pixel and covariance after the head, (1, C, C).
    mean : dict of str to Tensor
        Style layer -> channel means after the head, (1, C).
    quantiles : dict of str to Tensor
        Style layer -> quantiles of the projected feature columns, (PROJECTIONS, QUANTILES).
    content : Tensor
        Features of the content layer, (1, C, H, W).
    """

    gram: Mapping[str, Tensor]
    cov: Mapping[str, Tensor]
    mean: Mapping[str, Tensor]
    quantiles: Mapping[str, Tensor]
    content: Tensor


class Judge:
    """Judge results by the features of one encoder, in float32.

    Parameters
    ----------
    encoder : VGG
        The encoder. It is a fairer judge if the painting was made with another one.
    compute : Compute, optional
        Device and precision; the CPU if not given.
    long_side : int
        Long side of the judged pictures in pixels. Figures of different sizes are not comparable.
    """

    def __init__(self, encoder: VGG, compute: Compute | None = None, long_side: int = LONG_SIDE):
        compute = compute or choose_compute("cpu", "float32")
        if compute.autocast_dtype is not None:
            raise OptionError("a judge computes in float32; choose its device with --precision float32")
        compute.network(encoder)
        self.encoder, self.compute, self.long_side = encoder, compute, long_side
        self.heads = {k: tuple(t.to(compute.device) for t in head_map(encoder, k)) for k in STYLE_LAYERS}

    def figures(self, content: PictureSource, style: PictureSource, result: PictureSource) -> Figures:
        """Return the figures of the result only."""
        return self.judge(content, style, result).result

    @torch.no_grad()
    def judge(self, content: PictureSource, style: PictureSource, result: PictureSource) -> Judgement:
        """Return the figures of a result, of the photo and of the recoloured photo.

        Each picture is converted to 8 bits and the judge's size. Then the photo is resized to the result's size.

        Parameters
        ----------
        content, style, result : path or Tensor
            Paths, or pictures (1, 3, H, W), float32, sRGB, [0, 1].

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
        """Return a picture (1, 3, H, W) at the judge's size, resized in 8 bits by Pillow's Lanczos filter."""
        x = source if isinstance(source, Tensor) else over_white(read_image(source).pixels)
        levels = (x[0].permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
        image = Image.fromarray(levels)
        k = self.long_side / max(image.size)
        size = (max(LEAST_SIDE, round(image.width * k)), max(LEAST_SIDE, round(image.height * k)))
        pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS), dtype=np.float32) / 255
        return torch.from_numpy(pixels).permute(2, 0, 1)[None]

    @torch.no_grad()
    def measure(self, picture: Tensor) -> Measured:
        """Measure a picture (1, 3, H, W), float32, sRGB, [0, 1], without resizing it."""
        features = self.encoder(self.compute.picture(picture), (*STYLE_LAYERS, CONTENT_LAYER))
        content = self.encoder.wide(CONTENT_LAYER, features[CONTENT_LAYER])
        gram, cov, mean, quantiles = {}, {}, {}, {}
        for layer, (weight, bias) in self.heads.items():
            # The head is linear, so its outputs' statistics follow from the moments and columns of its inputs.
            moments = raw_moments(features[layer])
            v = torch.cat([weight, bias[:, None]], 1)
            gram[layer] = v @ moments @ v.t()
            cov[layer] = weight @ covariance(moments) @ weight.t()
            mean[layer] = moments[:, :-1, -1] @ weight.t() + bias
            directions = projections(len(bias)).to(bias.device)
            quantiles[layer] = projected_quantiles(features[layer], directions @ weight, directions @ bias)
        return Measured(gram, cov, mean, quantiles, content)


def load_judge(source: str = "compact") -> Judge:
    """Return a judge by the name of a registered encoder, or by the path of the teacher's file.

    Raises
    ------
    WeightsError
        If the encoder cannot be loaded.
    TrainingError
        If the file is not the teacher's.
    """
    return Judge(load_encoder(source) if source in MODELS else load_teacher(Path(source)))


def distances(x: Measured, style: Measured, content: Measured) -> Figures:
    """Return a picture's figures from measurements of it, of the style, and of the photo at the picture's size."""
    gram = [relative(x.gram[k], style.gram[k]) for k in style.gram]
    cov = [relative(x.cov[k], style.cov[k]) for k in style.cov]
    sliced = [sliced_distance(x.quantiles[k], style.quantiles[k]) for k in style.quantiles]
    return Figures(_mean(gram), _mean(cov), _mean(sliced), float(content_loss(x.content, content.content)))


def relative(matrix: Tensor, target: Tensor) -> float:
    """Return ||M - T|| / ||T|| in the Frobenius norm."""
    return float((matrix - target).norm() / target.norm().clamp(min=TINY))


def sliced_distance(quantiles: Tensor, target: Tensor) -> float:
    """Return the mean 1-Wasserstein distance along the directions, over the target's mean absolute deviation.

    Parameters
    ----------
    quantiles, target : Tensor
        (PROJECTIONS, QUANTILES), from `projected_quantiles`.
    """
    spread = (target - target.mean(1, keepdim=True)).abs().mean()
    return float((quantiles - target).abs().mean() / spread.clamp(min=TINY))


def head_map(encoder: VGG, layer: str) -> tuple[Tensor, Tensor]:
    """Return weight (C', C) and bias (C',) of a layer's head; identity and zeros if it has none."""
    if layer not in encoder.heads:
        return torch.eye(encoder.width(layer)), torch.zeros(encoder.width(layer))
    head = encoder.heads[layer]
    assert isinstance(head, nn.Conv2d) and head.bias is not None
    return head.weight.detach().flatten(1), head.bias.detach()


def projections(width: int) -> Tensor:
    """Return fixed random directions (PROJECTIONS, width), each of length 1, seeded by the width."""
    directions = torch.randn(PROJECTIONS, width, generator=torch.Generator().manual_seed(width))
    return directions / directions.norm(dim=1, keepdim=True)


def projected_quantiles(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return evenly spaced quantiles, in ascending order, of feature columns along directions.

    Parameters
    ----------
    features : Tensor
        (1, C, H, W).
    weight, bias : Tensor
        (D, C) and (D,): the directions and the offsets.

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
    """Return the figures relative to the photo's.

    For `gram`, `cov` and `sliced` these are geometric means over the rows of the ratio to the photo's; for `content`
    the arithmetic mean.
    """
    if not rows:
        raise OptionError("there are no results to average; judge at least one")

    def ratio(name: str) -> float:
        logs = [math.log(max(getattr(getattr(r, of), name), TINY) / max(getattr(r.photo, name), TINY)) for r in rows]
        return math.exp(_mean(logs))

    return Figures(ratio("gram"), ratio("cov"), ratio("sliced"), _mean([getattr(r, of).content for r in rows]))


def spearman(x: Sequence[float], y: Sequence[float]) -> float:
    """Return Spearman's rank correlation. Ties get their mean rank. NaN if all values of `x` or of `y` are equal."""
    if min(len(set(x)), len(set(y))) < 2:
        return math.nan
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values: Sequence[float]) -> np.ndarray:
    _, place, count = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in Markdown, with three decimals for floats and columns of numbers aligned to the right."""
    cells = [[f"{v:.3f}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    rules = ["--:" if any(isinstance(row[i], int | float) for row in rows) else "---" for i in range(len(header))]
    lines = [header, rules, *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
