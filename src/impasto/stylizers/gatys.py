"""The preset `gatys`: the recipe of most tutorials, unchanged.

Gatys, Ecker, Bethge 2016, as in the widely copied notebook: VGG features after the ReLU, one content layer, raw Gram
matrices, the normalised content picture as the variable, one scale, plain Adam. It is the reference for comparisons;
the default makes good pictures in less time.
"""

import copy
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..device import Compute, ordinary, with_gradients
from ..errors import DivergedError, OptionError
from ..image.picture import opaque, visible
from ..image.resize import resize
from ..models.moments import raw_moments, weights_of
from ..models.vgg import CONTENT_LAYER, VGG
from ..options import OptimizeOptions
from ..style.losses import head_metric
from ..style.target import StyleTarget
from .memory import fit_memory
from .protocol import Region, Step, Stylizer
from .schedule import check_size, painting_size

log = logging.getLogger(__name__)

LAYER_WEIGHTS = {"relu1_1": 1.0, "relu2_1": 0.75, "relu3_1": 0.2, "relu4_1": 0.2, "relu5_1": 0.2}
COMPACT_FEATURE_SCALE = 0.211
"""Factor on the compact encoder's features that gives the benchmark pair the classic first total loss, 1.4e8."""


class GatysLoss:
    """The recipe's objective for pictures of one size.

    Parameters
    ----------
    encoder : VGG
        Provides the features, after its heads if it has any, times `feature_scale`.
    content, style : Tensor
        (1, 3 or 4, H, W) in [0, 1], both of the same size. Only visible pixels count towards the style.
    content_weight, style_weight : float
        The recipe's alpha and beta.
    feature_scale : float
        1 for VGG-19.
    """

    def __init__(
        self,
        encoder: VGG,
        compute: Compute,
        content: Tensor,
        style: Tensor,
        *,
        content_weight: float = 1.0,
        style_weight: float = 1e6,
        feature_scale: float = 1.0,
    ):
        self.encoder, self.compute, self.feature_scale = encoder, compute, feature_scale
        self.content_weight, self.style_weight = content_weight, style_weight
        metrics = {k: head_metric(encoder, k) for k in LAYER_WEIGHTS}
        self.metrics = {k: m if m is None else m.to(compute.device) for k, m in metrics.items()}
        self.shown = visible(content)
        with torch.no_grad():
            self.content = self._features(opaque(content))[CONTENT_LAYER]
            features = self._features(opaque(style))
            self.grams = {k: self._gram(features[k], k, visible(style)) for k in LAYER_WEIGHTS}

    def _features(self, image: Tensor) -> dict[str, Tensor]:
        with self.compute.autocast():
            features = self.encoder(image, (*LAYER_WEIGHTS, CONTENT_LAYER))
        content = self.encoder.wide(CONTENT_LAYER, features[CONTENT_LAYER])
        # The other layers are only reduced to sums, which are float32 in any precision.
        features[CONTENT_LAYER] = content.float() * self.feature_scale
        return features

    def _gram(self, features: Tensor, layer: str, shown: Tensor | None) -> Tensor:
        """Return the raw Gram matrix F F^T, or a matrix with the same distances to others."""
        weights = None if shown is None else weights_of(shown, features)
        moments = raw_moments(features, weights) * (self.feature_scale**2 * features.shape[2] * features.shape[3])
        metric = self.metrics[layer]
        return moments[:, :-1, :-1] if metric is None else metric @ moments @ metric

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms `content` and `style` and their sum `total`, scalars, for (1, 3, H, W)."""
        features = self._features(image)
        content = (features[CONTENT_LAYER] - self.content).square().mean()
        style = torch.zeros((), device=image.device)
        for layer, weight in LAYER_WEIGHTS.items():
            f = features[layer]
            width = self.encoder.config.heads.get(layer, f.shape[1])
            difference = self._gram(f, layer, self.shown) - self.grams[layer]
            mean_square = difference.square().sum() / width**2
            style = style + weight * mean_square / (width * f.shape[2] * f.shape[3])
        content, style = self.content_weight * content, self.style_weight * style
        return {"total": content + style, "content": content, "style": style}


class GatysStylizer(Stylizer):
    """Paint by the recipe, with its one style bound.

    Parameters
    ----------
    styles : sequence of Tensor or StyleTarget
        One painting (1, 3, H, W) in [0, 1]. It is resized to the content's shape, so a measured style is refused.
    options : OptimizeOptions
        Only the weights, the rate, the iterations and the size are used, if given.
    """

    method = "optimize"

    @with_gradients
    def __init__(
        self, styles: Sequence[Tensor | StyleTarget], options: OptimizeOptions, encoder: VGG, compute: Compute
    ):
        if len(styles) != 1 or isinstance(styles[0], StyleTarget):
            raise OptionError("the preset gatys takes exactly one style, as a picture")
        self.style, self.options, self.encoder, self.compute = ordinary(styles[0]), options, encoder, compute
        compute.network(encoder)

    @with_gradients
    def steps(
        self,
        content: Tensor,
        regions: Sequence[Region] = (),
        mask: Tensor | None = None,
        state: dict[str, Any] | None = None,
    ) -> Iterator[Step]:
        """Yield every iteration of the recipe. The variable is never clamped, only the picture shown.

        Parameters and errors are those of `Stylizer.steps`, but there are no regions and no mask (OptionError), and the
        painting is never made smaller to fit into memory.
        """
        if regions or mask is not None:
            raise OptionError("the preset gatys has no regions and no mask; leave out --region, --mask or the preset")
        content, state = ordinary((content, state))
        size = painting_size((content.shape[-2], content.shape[-1]), self.options)
        check_size(size, (content.shape[-2], content.shape[-1]), self.encoder)
        limit = self.options.max_memory
        fit_memory(size, self.encoder, self.compute, strict=True, checkpointing=False, limit=limit)
        if state is not None and state["size"] != list(size):
            raise OptionError("the state belongs to another painting; continue with the same photograph and options")
        return self._paint(content, size, state)

    @with_gradients
    def _paint(self, content: Tensor, size: tuple[int, int], state: dict[str, Any] | None) -> Iterator[Step]:
        settings = self.options.settings
        content = self.compute.picture(resize(content, size))
        loss = GatysLoss(
            self.encoder,
            self.compute,
            content,
            self.compute.picture(resize(self.style, size)),
            content_weight=settings.content_weight,
            style_weight=settings.style_weight,
            feature_scale=COMPACT_FEATURE_SCALE if self.encoder.heads else 1.0,
        )
        mean, std = self.encoder.mean, self.encoder.std
        x = ((opaque(content) - mean) / std).clone().requires_grad_(True)
        optimiser = torch.optim.Adam([x], lr=settings.rate)
        first, total = 1, settings.iterations
        assert isinstance(total, int), "the options check it"
        if state is not None:
            first = state["done"] + 1
            with torch.no_grad():
                x.copy_(state["x"])
            optimiser.load_state_dict(state["optimiser"])
        for i in range(first, total + 1):
            terms = loss(x * std + mean)
            losses = {k: float(v.detach()) for k, v in terms.items()}
            if not torch.isfinite(terms["total"] + x.detach().sum()):  # a fused ReLU turns NaN into 0
                raise DivergedError(
                    f"the loss is no longer finite at iteration {i}; lower --rate (now {settings.rate:g})"
                )
            optimiser.zero_grad()
            terms["total"].backward()
            optimiser.step()

            @with_gradients
            def snapshot(i: int = i) -> dict[str, Any]:
                state = copy.deepcopy(optimiser.state_dict())  # later steps change it and x in place
                return {"size": list(size), "done": i, "x": x.detach().clone(), "optimiser": state}

            shown = (x.detach() * std + mean).clamp(0, 1)

            def measured(shown: Tensor = shown) -> dict[str, float]:
                with torch.no_grad():
                    return {k: float(v) for k, v in loss(shown).items()}

            yield Step(size, 1, 1, i, total, losses, shown, state=snapshot, measured=measured, schedule=(total,))
