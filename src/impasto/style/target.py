"""StyleTarget: a style's description, independent of the picture to be painted.

A style is the raw moments of an encoder's features, for each style size and layer. Moments of several styles can be
blended with weights. A target is small, so it can be saved, shipped and used without the painting. The built-in styles
are style files of freely usable paintings, measured with the compact encoder.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from ..device import Compute, with_gradients
from ..errors import OptionError, StyleError
from ..image.picture import opaque, visible
from ..image.resize import fit_size, resize
from ..models.model_file import read_model_file, write_model_file
from ..models.moments import pack, raw_moments, unpack, weights_of
from ..models.network import Network
from ..models.vgg import STYLE_LAYERS, VGG
from ..options import LARGEST_SIZE
from .plain import calmness

log = logging.getLogger(__name__)

STYLE_SIZES = (128, 256, 512, 1024)
"""Long sides, in pixels, at which a style file holds its painting's moments: one per octave, interpolated between."""

LEARNT = "learnt"
"""Name of the tensor that a network learnt for the style, in a style file."""


@dataclass(frozen=True)
class StyleTarget:
    """A style for one encoder.

    Parameters
    ----------
    encoder, digest, pooling : str
        The encoder's name, the hash of its weights, and its pooling.
    moments : dict of int to dict of str to Tensor
        Style size (long side of the painting in pixels) -> layer -> raw moments (1, C + 1, C + 1), float32.
    pixels : dict of int to dict of str to int
        Style size -> layer -> number of feature pixels that were averaged.
    about : dict of str to str
        Title, artist, date, licence and source of the painting, as far as known.
    name : str
        The name of a built-in style; not stored in files.
    learnt : Tensor, optional
        (1, P), the offset to the prediction from the moments that a network learnt (`models.network`).
    network : str
        The digest of that network.
    calm : float, optional
        How calm the painting is (`plain.calmness`), if known.
    """

    encoder: str
    digest: str
    pooling: str
    moments: Mapping[int, Mapping[str, Tensor]]
    pixels: Mapping[int, Mapping[str, int]]
    about: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    learnt: Tensor | None = None
    network: str = ""
    calm: float | None = None

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers with moments."""
        return tuple(next(iter(self.moments.values())))

    @property
    def sizes(self) -> tuple[int, ...]:
        """The stored style sizes, smallest first."""
        return tuple(sorted(self.moments))

    def at(self, size: float) -> dict[str, Tensor]:
        """Return the moments at a style size, interpolated over the logarithm of the size.

        Beyond the smallest and the largest stored size, returns their moments.

        Parameters
        ----------
        size : float
            Long side of the painting, in pixels.

        Returns
        -------
        dict of str to Tensor
            Layer -> raw moments (1, C + 1, C + 1).
        """
        sizes = self.sizes
        above = next((s for s in sizes if s >= size), sizes[-1])
        below = next((s for s in reversed(sizes) if s <= size), sizes[0])
        if above == below or size <= sizes[0] or size >= sizes[-1]:
            return dict(self.moments[below if size >= sizes[-1] else above])
        t = math.log(size / below) / math.log(above / below)
        return {k: torch.lerp(m, self.moments[above][k], t) for k, m in self.moments[below].items()}

    def learnt_for(self, net: Network) -> Tensor | None:
        """Return what the network learnt for this style, (1, P), or None if it has not learnt it.

        Raises
        ------
        StyleError
            If the learnt tensor has another shape.
        """
        if self.learnt is not None and self.network == net.digest:
            if self.learnt.shape != (1, net.layout.predicted):
                raise StyleError("the learnt part of the style file does not fit the network; learn the style again")
            return self.learnt
        if self.learnt is not None:
            log.info("ignoring what another network learnt for this style; run `impasto learn` to learn it again")
        return net.learnt_style(self.name)

    def fits(self, encoder: VGG) -> bool:
        """Whether the style was measured with this encoder."""
        return (self.digest, self.pooling) == (encoder.digest, encoder.pooling)

    def check(self, encoder: VGG) -> None:
        """Raise StyleError if the style was made for another encoder, or lacks style layers of this one."""
        if not self.fits(encoder):
            raise StyleError(
                f"the style was made for the encoder {self.encoder} ({self.digest}, {self.pooling} pooling), not for "
                f"{encoder.name} ({encoder.digest}, {encoder.pooling} pooling); give the painting itself instead"
            )
        widths = {k: encoder.width(k) + 1 for k in STYLE_LAYERS}
        if any(k not in self.layers for k in widths) or any(
            layers[k].shape != (1, c, c) for layers in self.moments.values() for k, c in widths.items()
        ):
            raise StyleError(f"the style lacks the layers {', '.join(widths)} of {encoder.name}; make it again")

    def save(self, path: str | Path) -> None:
        """Write a `.style.safetensors` file: the upper triangles of the moments, as float16 if they fit.

        Raises
        ------
        WeightsError
            If the file cannot be written.
        """
        tensors = {f"{s}/{k}": pack(m)[0] for s, layers in self.moments.items() for k, m in layers.items()}
        if self.learnt is not None:
            tensors[LEARNT] = self.learnt[0]
        largest = max(float(t.abs().max()) for t in tensors.values())
        dtype = torch.float16 if largest < torch.finfo(torch.float16).max else torch.float32
        config = {
            "encoder": self.encoder,
            "digest": self.digest,
            "pooling": self.pooling,
            "pixels": {str(s): dict(p) for s, p in self.pixels.items()},
            "about": dict(self.about),
            "network": self.network,
            "calm": self.calm,
        }
        write_model_file(Path(path), "style", config, tensors, licence=self.about.get("licence", ""), dtype=dtype)

    @classmethod
    @with_gradients
    def load(cls, path: str | Path) -> "StyleTarget":
        """Read a style file.

        Raises
        ------
        WeightsError
            If the file is missing or is not a style file.
        StyleError
            If its contents are inconsistent.
        """
        config, tensors, _ = read_model_file(Path(path), "style")
        learnt = tensors.pop(LEARNT, None)
        moments: dict[int, dict[str, Tensor]] = {}
        try:
            for key, triangle in tensors.items():
                size, layer = key.split("/")
                moments.setdefault(int(size), {})[layer] = unpack(triangle.float())[None]
            pixels = {int(s): dict(p) for s, p in config["pixels"].items()}
            about = {k: str(v) for k, v in config["about"].items()}
            calm = None if config.get("calm") is None else min(1.0, max(0.0, float(config["calm"])))
            target = cls(config["encoder"], config["digest"], config["pooling"], moments, pixels, about, calm=calm)
            if learnt is not None:
                target = replace(target, learnt=learnt[None], network=str(config["network"]))
        except (KeyError, IndexError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise StyleError(f"{path} is not a valid style file ({error}); make it again from its painting") from error
        layers, values = [set(m) for m in moments.values()], [*tensors.values(), *([] if learnt is None else [learnt])]
        if not layers or any(k != layers[0] for k in layers) or not all(t.isfinite().all() for t in values):
            raise StyleError(f"{path} is not a valid style file; make it again from its painting")
        return target

    @classmethod
    def of(
        cls,
        picture: Tensor,
        encoder: VGG,
        compute: Compute,
        sizes: Sequence[int] = STYLE_SIZES,
        layers: Sequence[str] = STYLE_LAYERS,
        about: Mapping[str, str] | None = None,
    ) -> "StyleTarget":
        """Measure a painting.

        Parameters
        ----------
        picture : Tensor
            (1, 3 or 4, H, W), float32, sRGB, [0, 1]; only the visible part of a cut-out is measured.
        encoder : VGG
            The encoder; it must have the layers `layers`.
        compute : Compute
            Device and precision.
        sizes : sequence of int
            Long sides at which to measure, in pixels. The picture is not enlarged to larger sizes, unless it is too
            small for the encoder.

        Raises
        ------
        StyleError
            If the picture is far too elongated.
        """
        moments, pixels = {}, {}
        for size in sizes:
            moments[size], pixels[size] = measure(picture, encoder, compute, size, layers)
        name, digest, pooling = encoder.name, encoder.digest, encoder.pooling
        return cls(name, digest, pooling, moments, pixels, about or {}, calm=calmness(picture))


@with_gradients
@torch.no_grad()
def measure(
    picture: Tensor, encoder: VGG, compute: Compute, size: int, layers: Sequence[str] = STYLE_LAYERS
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Return a painting's raw moments at one size, and the number of feature pixels that were averaged, by layer.

    The parameters and errors are those of `StyleTarget.of`.
    """
    fitted = fit_style(picture, size, encoder, layers)
    shown = visible(fitted)
    with compute.autocast():
        features = encoder(compute.picture(opaque(fitted)), layers)
    moments = {k: raw_moments(f, None if shown is None else weights_of(shown, f)) for k, f in features.items()}
    return moments, {k: f.shape[-2] * f.shape[-1] for k, f in features.items()}


def check_shape(picture: Tensor, encoder: VGG, layers: Sequence[str] = STYLE_LAYERS) -> int:
    """Return the shorter side, in pixels, that the layers need; StyleError if a painting is far too elongated."""
    height, width = picture.shape[-2:]
    least = max(encoder.least_side(k) for k in layers)
    if least * max(height, width) > LARGEST_SIZE * min(height, width):
        raise StyleError(f"a style of {width}x{height} pixels is too elongated; crop it")
    return least


def fit_style(picture: Tensor, size: int, encoder: VGG, layers: Sequence[str] = STYLE_LAYERS) -> Tensor:
    """Resize a painting (1, 3 or 4, H, W) to a long side in pixels. Enlarges it only if it is too small for the layers.

    Raises
    ------
    StyleError
        If it is far too elongated.
    """
    own, least = (picture.shape[-2], picture.shape[-1]), check_shape(picture, encoder, layers)
    h, w = fit_size(own, long_side=size)
    if min(h, w) < least:
        h, w = fit_size(own, short_side=least, enlarge=True)
    return resize(picture, (h, w))


def blend(moments: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """Return the weighted mean of several styles' raw moments; the weights need not sum to one.

    Raises
    ------
    OptionError
        If the number of weights is wrong, or the weights are negative or all zero.
    """
    shares = shares_of(weights, len(moments))
    return {k: torch.stack([w * m[k] for m, w in zip(moments, shares, strict=True)]).sum(0) for k in moments[0]}


def shares_of(weights: Sequence[float], styles: int) -> tuple[float, ...]:
    """Return the weights of the styles, scaled to sum to one. Raises the same errors as `blend`."""
    if len(weights) != styles:
        raise OptionError(f"{len(weights)} --style-weights for {styles} styles; give one for each")
    total = sum(weights)
    if total <= 0 or min(weights) < 0:
        raise OptionError("--style-weights must not be negative, and at least one must be positive")
    return tuple(w / total for w in weights)


FOLDER = Path(__file__).parents[1] / "weights" / "styles"
SUFFIX = ".style.safetensors"


def builtin_names() -> list[str]:
    """Return the names of the built-in styles, sorted."""
    return sorted(p.name.removesuffix(SUFFIX) for p in FOLDER.glob("*" + SUFFIX))


@cache
def load_builtin(name: str) -> StyleTarget:
    """Load the built-in style of that name.

    Raises
    ------
    WeightsError
        If its file is missing or damaged.
    """
    return replace(StyleTarget.load(FOLDER / (name + SUFFIX)), name=name)
