"""PerceptualLoss: weighted terms of a picture's loss, all seen through one encoder in one pass."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..device import Compute
from ..models.padding import circular_pad, reflection_pad
from ..models.vgg import VGG


class Term:
    """A term of the loss: what it makes of each of its layers' features, and what of that is the term's value.

    Parameters
    ----------
    layers : sequence of str
        The layers that it looks at; none for a term of the pixels.
    """

    def __init__(self, layers: Sequence[str] = ()):
        self.layers = tuple(layers)

    def measure(self, layer: str, features: Tensor, view: "View") -> Tensor:
        """Something small of one layer's features (1, C, H, W): the value itself, (1,) or a scalar, if not changed."""
        raise NotImplementedError

    def total(self, measures: Mapping[str, Tensor], image: Tensor) -> Tensor:
        """The term, a scalar, of what was measured at each layer and of the picture (1, 3, H, W)."""
        return torch.stack([m.sum() for m in measures.values()]).sum()


class View:
    """How the encoder sees a picture.

    Parameters
    ----------
    encoder : VGG
        Whose features.
    compute : Compute
        Device, and the encoder's precision.
    margin : int
        Pixels by which the picture is continued before the encoder sees it. A network sees the pixels at a border in
        fewer receptive fields than others, so that an optimiser can hide colours there almost for free; with a margin
        the border is as expensive as the inside.
    wrap : bool
        Continued by the opposite side, of a picture that shall tile the plane, and not by reflection. What is seen
        twice then counts once.
    checkpointing : bool
        Save memory (`VGG.visit`).
    compiled : bool
        Compile the encoder with torch.compile; without checkpointing only.
    """

    def __init__(
        self,
        encoder: VGG,
        compute: Compute,
        margin: int = 0,
        *,
        wrap: bool = False,
        checkpointing: bool = False,
        compiled: bool = False,
    ):
        self.encoder, self.compute = encoder, compute
        self.margin, self.wrap, self.checkpointing = margin, wrap, checkpointing
        self.compiled = torch.compile(encoder.forward, dynamic=False) if compiled and not checkpointing else None

    def continued(self, image: Tensor) -> Tensor:
        """The picture (or mask) with its margin."""
        if self.wrap:
            return circular_pad(image, self.margin)
        margin = min(self.margin, min(image.shape[-2:]) - 1)
        return reflection_pad(image, margin) if margin > 0 else image

    def weights(self, mask: Tensor, features: Tensor) -> Tensor:
        """A mask (1, 1, H, W) of the picture's size, brought to the size of the features as terms measure them."""
        mask = mask.to(features.device)
        return F.interpolate(mask if self.wrap else self.continued(mask), features.shape[-2:], mode="area")

    def measure(self, image: Tensor, terms: Sequence[Term]) -> list[dict[str, Tensor]]:
        """What each term measures of the picture (1, 3, H, W)."""
        found: list[dict[str, Tensor]] = [{} for _ in terms]
        layers = tuple(dict.fromkeys(layer for t in terms for layer in t.layers))
        if not layers:
            return found

        def measure(layer: str, features: Tensor) -> Tensor:
            features = self.inside(features, layer)
            with torch.autocast(features.device.type, enabled=False):
                parts = [t.measure(layer, features, self).flatten() for t in terms if layer in t.layers]
            shapes[layer] = [p.numel() for p in parts]
            return torch.cat(parts)

        shapes: dict[str, list[int]] = {}
        with self.compute.autocast():
            if self.compiled is None:
                measured = self.encoder.visit(self.continued(image), layers, measure, self.checkpointing)
            else:
                measured = {k: measure(k, f) for k, f in self.compiled(self.continued(image), layers).items()}
        for layer, values in measured.items():
            parts = iter(values.split(shapes[layer]))
            for term, place in zip(terms, found, strict=True):
                if layer in term.layers:
                    place[layer] = next(parts)
        return found

    def inside(self, features: Tensor, layer: str) -> Tensor:
        """The features without the margin where that is the other side over again."""
        if not (self.wrap and self.margin):
            return features
        m = self.margin // self.encoder.stride(layer)
        return features[:, :, m : features.shape[2] - m, m : features.shape[3] - m]

    @torch.no_grad()
    def features(self, image: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
        """The features of a picture (1, 3, H, W) that stays as it is."""
        with self.compute.autocast():
            found = self.encoder(self.continued(self.compute.picture(image)), layers)
        return {k: self.inside(f, k) for k, f in found.items()}


class PerceptualLoss:
    """The weighted sum of terms of a picture, through one encoder.

    Parameters
    ----------
    view : View
        Through what the terms see the picture.
    terms : dict of str to (float, Term)
        Name -> weight and term; those of weight 0 are left out.
    """

    def __init__(self, view: View, terms: Mapping[str, tuple[float, Term]]):
        self.view = view
        self.terms = {k: (w, t) for k, (w, t) in terms.items() if w}

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """The weighted terms by their names, and their sum `total`, each a scalar.

        Parameters
        ----------
        image : Tensor
            (1, 3, H, W), sRGB; [0, 1] where it matters, but not checked.
        """
        measured = self.view.measure(image, [t for _, t in self.terms.values()])
        values = {
            name: weight * term.total(measures, image)
            for (name, (weight, term)), measures in zip(self.terms.items(), measured, strict=True)
        }
        return {"total": torch.stack(list(values.values())).sum(), **values}
