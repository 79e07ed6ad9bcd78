"""VGG networks as perceptual encoders: VGG-16, VGG-19 and the compact VGG, one class with a width table.

Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015. The convolutions
have the same indices in `features` as in torchvision, so its state dicts load unchanged. Layers have their names from
the literature: `conv4_2` is the output of the convolution, `relu4_2` the same after the ReLU.

`Look` runs a frozen network over a picture, forward and backward, without autograd. It owns the buffers of the backward
pass, so gradients are masked and accumulated in place. Of the forward pass, only the features are stored.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from string import ascii_lowercase
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..errors import OptionError, WeightsError
from .layers import Kernel, convolve, convolve_back, max_pool, max_pool_back, reflection_pad
from .moments import at_least_float32

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
"""Gatys' five style layers."""
CONTENT_LAYER = "relu4_2"
"""Gatys' content layer."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Pooling = Literal["max", "average"]


def block_of(layer: str) -> int:
    """Return the number of a layer's block, from 1: 4 for `conv4_2`, `relu4_2` and `pool4`."""
    return int(layer.lstrip(ascii_lowercase).partition("_")[0])


@dataclass(frozen=True)
class VGGConfig:
    """The shape of one VGG.

    Parameters
    ----------
    widths, depths : tuple of int
        Channels and number of 3x3 convolutions of each block, with 2x2 pooling between the blocks.
    heads : dict of str to int
        Layer name -> output channels of its 1x1 head (only the compact encoder has heads).
    padding : "zeros" or "reflect"
        The padding of the convolutions.
    batch_norm : bool
        Whether batch norm follows every convolution. It is for training; `VGG.fold_batch_norm` removes it.
    mean, std : tuple of float
        Normalisation per channel for pictures in [0, 1].
    """

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: dict[str, int]
    padding: Literal["zeros", "reflect"] = "zeros"
    batch_norm: bool = False
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if self.padding not in ("zeros", "reflect"):
            raise ValueError(f"padding is {self.padding!r}, neither 'zeros' nor 'reflect'")

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration as plain values, for a model file's metadata."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "VGGConfig":
        """Return the configuration from the result of `to_dict`, which may have been through JSON."""
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fields)


VGG16 = VGGConfig((64, 128, 256, 512, 512), (2, 2, 3, 3, 3), {})
VGG19 = VGGConfig((64, 128, 256, 512, 512), (2, 2, 4, 4, 4), {})
COMPACT = VGGConfig(
    (16, 32, 80, 144, 128),
    (2, 2, 4, 4, 1),
    {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256, "relu4_1": 512, "relu5_1": 512, "relu4_2": 128},
    padding="reflect",
)


class VGG(nn.Module):
    """A frozen VGG that returns the features of any of its layers.

    Parameters
    ----------
    config : VGGConfig
        Its shape.
    name : str
        Its name in messages and style files.
    pooling : "max" or "average"
        The pooling between blocks. Average pooling, as proposed by Gatys et al., is scaled so that the features have
        about the same magnitude as with max pooling.
    """

    AVERAGE_POOLING_GAIN = 1.25
    """Ratio of the means of max-pooled and average-pooled features: 1.2 to 1.3 at the first three poolings of a pruned
    VGG-19 and of networks with He's random weights, on four photographs, and 1.5 at the fourth of the pruned VGG-19.
    With this factor, the root mean square of the features at the style layers stays within a factor of 1.4 of max
    pooling's. Without it, it falls to 0.4 at relu5_1."""

    def __init__(self, config: VGGConfig, name: str = "vgg", pooling: Pooling = "max"):
        super().__init__()
        self.config, self.name = config, name
        self.pooling: Pooling = pooling
        self.digest = ""
        """The first digits of the sha256 of its weights file, if `weights.load_encoder` loaded it."""
        modules: list[nn.Module] = []
        self.layers: dict[str, int] = {}
        """Layer name -> index in `features`, in network order."""
        channels = 3
        for block, (width, depth) in enumerate(zip(config.widths, config.depths, strict=True), start=1):
            for i in range(1, depth + 1):
                modules.append(nn.Conv2d(channels, width, 3, padding=1 if config.padding == "zeros" else 0))
                if config.batch_norm:
                    modules.append(nn.BatchNorm2d(width))
                self.layers[f"conv{block}_{i}"] = len(modules) - 1
                modules.append(nn.ReLU())
                self.layers[f"relu{block}_{i}"] = len(modules) - 1
                channels = width
            modules.append(nn.MaxPool2d(2))
            self.layers[f"pool{block}"] = len(modules) - 1
        self.features = nn.Sequential(*modules)
        self.heads = nn.ModuleDict({k: nn.Conv2d(self.width(k), v, 1) for k, v in config.heads.items()})
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)
        self._kernels: dict[int, tuple[object, Kernel]] = {}

    def width(self, layer: str) -> int:
        """Return the number of channels of `layer`."""
        return self.config.widths[block_of(layer) - 1]

    def wide(self, layer: str, features: Tensor) -> Tensor:
        """Apply a layer's head to its features, in float32 at least; return them unchanged if it has no head."""
        if layer not in self.heads:
            return features
        return self.heads[layer](at_least_float32(features))

    @staticmethod
    def stride(layer: str) -> int:
        """Return the picture pixels per feature pixel of `layer`, along one side."""
        return 2 ** (block_of(layer) - (0 if layer.startswith("pool") else 1))

    def least_side(self, layer: str) -> int:
        """Return the smallest side, in pixels, of a picture for `layer`. Reflection needs two feature pixels."""
        doubled = self.config.padding == "reflect" and not layer.startswith("pool")
        return self.stride(layer) * (2 if doubled else 1)

    def check_layers(self, layers: Iterable[str]) -> tuple[str, ...]:
        """Return the layers as a tuple. Raises OptionError, with the nearest names, if one does not exist."""
        from difflib import get_close_matches

        layers = tuple(layers)
        for layer in layers:
            if layer not in self.layers:
                near = get_close_matches(layer, self.layers, 3) or list(self.layers)
                raise OptionError(f"{self.name} has no layer {layer!r}; did you mean {' or '.join(near)}?")
        return layers

    def forward(self, image: Tensor, layers: Iterable[str]) -> dict[str, Tensor]:
        """Return the features of `layers`, computed up to the deepest of them.

        Parameters
        ----------
        image : Tensor
            (N, 3, H, W), sRGB in [0, 1]. Values outside are allowed, as they occur while a picture is optimised.
        layers : iterable of str
            `conv1_1`, `relu1_1` ... `pool5`.

        Returns
        -------
        dict of str to Tensor
            Layer name -> (N, C, H / stride, W / stride), in autocast's dtype.

        Raises
        ------
        OptionError
            If a layer is unknown, or the picture is too small for the deepest one.
        """
        layers = self._in_order(image, layers)
        features = self._trained(image, layers) if self._in_training else features_of(image, self, layers)
        return dict(zip(layers, features, strict=True))

    def look(
        self,
        image: Tensor,
        layers: Iterable[str],
        visit: Callable[[str, Tensor], None] = lambda _, features: None,
        *,
        keep: bool = False,
        checkpointing: bool = False,
    ) -> "Look":
        """Run the network over a picture without autograd, and visit the features on the way.

        Parameters
        ----------
        image, layers
            As for `forward`.
        visit : callable
            (layer, features) -> None, called for each of `layers` when the network reaches it.
        keep : bool
            Whether to store the features for `Look.gradient`.
        checkpointing : bool
            Whether to store only the features between the blocks and recompute each block in the backward pass (Chen,
            Xu, Zhang, Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016). This takes a third more time,
            and no more memory than the largest block needs.

        Raises
        ------
        OptionError
            As `forward`.
        WeightsError
            If the network has batch norm, and so is in training.
        """
        if self.config.batch_norm:
            raise WeightsError(
                f"{self.name} still has the batch norm of its training; give the encoder of a later step"
            )
        return Look(self, image, self._in_order(image, layers), visit, keep, checkpointing)

    def _in_order(self, image: Tensor, layers: Iterable[str]) -> tuple[str, ...]:
        """Return the layers without duplicates, in network order. Raises OptionError as `forward` does."""
        found = tuple(sorted(set(self.check_layers(layers)), key=self.layers.__getitem__))
        least = self.least_side(found[-1]) if found else 1
        if min(image.shape[-2:]) < least:
            size = f"{image.shape[-1]}x{image.shape[-2]}"
            raise OptionError(
                f"a {size} picture is too small for {self.name}'s {found[-1]}, which needs {least} pixels a side"
            )
        return found

    @property
    def _in_training(self) -> bool:
        first = self.features[0]
        return self.config.batch_norm or (isinstance(first, nn.Conv2d) and first.weight.requires_grad)

    def _trained(self, image: Tensor, layers: Sequence[str]) -> list[Tensor]:
        """Return the features by autograd, with gradients for the weights."""
        wanted, found = {self.layers[layer] for layer in layers}, []
        x = (image - self.mean) / self.std
        for i in range(max(wanted, default=-1) + 1):
            module = self.features[i]
            if isinstance(module, nn.Conv2d) and self.config.padding == "reflect":
                x = reflection_pad(x)
            if isinstance(module, nn.MaxPool2d) and self.pooling == "average":
                x = self.AVERAGE_POOLING_GAIN * F.avg_pool2d(x, 2)
            else:
                x = module(x)
            if i in wanted:
                found.append(x)
        return found

    def kernel(self, i: int, like: Tensor) -> Kernel:
        """Return the weights of the convolution at index `i` with the dtype and device of a tensor, cast once."""
        module = self.features[i]
        assert isinstance(module, nn.Conv2d)
        version = (like.dtype, like.device, module.weight.data_ptr(), module.weight._version)
        known = self._kernels.get(i)
        if known is None or known[0] != version:
            assert module.bias is not None
            weight, bias = module.weight.detach(), module.bias.detach()
            if i == 0 and self.config.padding == "reflect":  # gets the picture without normalisation, see `Look`
                weight = weight / self.std
                bias = bias - (weight * self.mean).sum((1, 2, 3))
            known = self._kernels[i] = (version, Kernel.of(weight, bias, like))
        return known[1]

    def convolutions(self) -> list[tuple[str, nn.Conv2d]]:
        """Return (name, module) of the 3x3 convolutions in order."""
        modules = [m for m in self.features if isinstance(m, nn.Conv2d)]
        return list(zip((n for n in self.layers if n.startswith("conv")), modules, strict=True))

    def initialise(self, generator: torch.Generator) -> None:
        """Initialise every convolution and head by He's rule with random numbers from `generator`."""
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                fan_in = m.in_channels * math.prod(m.kernel_size)
                m.weight.data.normal_(0, math.sqrt(2 / fan_in), generator=generator)
                if m.bias is not None:
                    m.bias.data.zero_()

    def fold_batch_norm(self) -> "VGG":
        """Return the network for inference, with each batch norm folded into its convolution."""
        folded = VGG(replace(self.config, batch_norm=False), self.name, self.pooling)
        folded.heads.load_state_dict(self.heads.state_dict())
        norms = [m for m in self.features if isinstance(m, nn.BatchNorm2d)]
        for (_, new), (_, old), norm in zip(folded.convolutions(), self.convolutions(), norms, strict=True):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            assert old.bias is not None
            assert new.bias is not None
            gain = norm.weight.data / torch.sqrt(norm.running_var + norm.eps)
            new.weight.data = old.weight.data * gain[:, None, None, None]
            new.bias.data = (old.bias.data - norm.running_mean) * gain + norm.bias.data
        return folded


class Look:
    """One forward pass of a frozen VGG over a picture, with a backward pass to the picture.

    Created by `VGG.look`.

    Parameters
    ----------
    encoder, image, layers, visit, keep, checkpointing
        As for `VGG.look`, the layers in network order.
    """

    @torch.no_grad()
    def __init__(
        self,
        encoder: "VGG",
        image: Tensor,
        layers: Sequence[str],
        visit: Callable[[str, Tensor], None],
        keep: bool,
        checkpointing: bool,
    ):
        self.encoder, self.checkpointing = encoder, checkpointing
        self.wanted = {encoder.layers[k]: k for k in layers}
        self.places = self._steps()
        self.kept: dict[int, Tensor] = {}
        """Index -> features after that module; -1 is the input of the first convolution."""
        # With reflection padding, the normalisation can be folded into the first convolution's weights.
        self.folded = encoder.config.padding == "reflect"
        x = image if self.folded else (image - encoder.mean) / encoder.std
        if torch.is_autocast_enabled(image.device.type):
            x = x.to(torch.get_autocast_dtype(image.device.type))
        if keep:
            self.kept[-1] = x
        before = -1
        for i in self.places:
            x = self._forward(before, i, x)
            if keep and (not checkpointing or self._pools(i)):
                self.kept[i] = x
            if i in self.wanted:
                visit(self.wanted[i], x)
            before = i
        if keep and self.places:
            self.kept[before] = x

    def _steps(self) -> list[int]:
        """Return the indices to compute. A ReLU includes its convolution, unless the convolution's output is wanted."""
        features = self.encoder.features
        fused = [
            i
            for i, m in enumerate(features)
            if isinstance(m, nn.Conv2d) and isinstance(features[i + 1], nn.ReLU) and i not in self.wanted
        ]
        return [i for i in range(max(self.wanted, default=-1) + 1) if i not in fused]

    def _pools(self, i: int) -> bool:
        return isinstance(self.encoder.features[i], nn.MaxPool2d)

    def _convolution(self, before: int, i: int) -> int | None:
        """Return the index of the convolution in step `i`, alone or with its ReLU; None if there is none."""
        return next((j for j in range(before + 1, i + 1) if isinstance(self.encoder.features[j], nn.Conv2d)), None)

    def _forward(self, before: int, i: int, x: Tensor) -> Tensor:
        """Return the features after index `i` from those before it."""
        net, j = self.encoder, self._convolution(before, i)
        if j is not None:
            return convolve(x, net.kernel(j, x), reflect=net.config.padding == "reflect", relu=j < i)
        if not self._pools(i):
            return F.relu(x)
        return max_pool(x) if net.pooling == "max" else net.AVERAGE_POOLING_GAIN * F.avg_pool2d(x, 2)

    @torch.no_grad()
    def gradient(self, add: Callable[[str, Tensor, Tensor], object]) -> Tensor:
        """Return the gradient of the picture, (N, 3, H, W), float32. Can only be called once.

        Parameters
        ----------
        add : callable
            (layer, features, gradient): adds, in place, the gradient of the loss at that layer. Called for each of the
            layers, deepest first.
        """
        steps = list(zip([-1, *self.places], self.places, strict=False))
        g: Tensor | None = None
        masked = False  # whether the gradient is already masked by the current ReLU
        while steps:
            before, i = steps.pop()
            if before not in self.kept:
                self._recompute(before)
            y, x = self.kept.pop(i), self.kept[before]
            if i in self.wanted:
                # From here on in place: the gradient is dense and not shared.
                g = torch.zeros_like(y) if g is None else g.contiguous(memory_format=_layout(y))
                add(self.wanted[i], y, g)
                masked = False
            assert g is not None
            j, net = self._convolution(before, i), self.encoder
            if j is None or j < i:
                g = g if masked else _mask(g, y)
            if j is not None:
                g = convolve_back(g, net.kernel(j, g), reflect=net.config.padding == "reflect")
            elif self._pools(i) and net.pooling == "max":
                g = max_pool_back(x, g)
            elif self._pools(i):
                pooled = torch.ops.aten.avg_pool2d_backward(g, x, [2, 2], [2, 2], [0, 0], False, True, None)
                g = pooled.mul_(net.AVERAGE_POOLING_GAIN)
            masked = self._pools(i) and net.pooling == "max"  # only positive values got a gradient
        assert g is not None
        return at_least_float32(g) if self.folded else at_least_float32(g) / self.encoder.std

    def _recompute(self, place: int) -> None:
        """Recompute and store the features of a block, from its input up to an index."""
        first = max(k for k in self.kept if k < place)
        before, x = first, self.kept[first]
        for i in self.places:
            if first < i <= place:
                x = self.kept[i] = self._forward(before, i, x)
                before = i


def _mask(gradient: Tensor, y: Tensor) -> Tensor:
    """Multiply a gradient by a ReLU's derivative, given the ReLU's output `y`; in place unless it is a view."""
    if not gradient.is_contiguous(memory_format=_layout(y)):
        return torch.ops.aten.threshold_backward(gradient, y, 0)  # type: ignore[no-any-return]
    torch.ops.aten.threshold_backward.grad_input(gradient, y, 0, grad_input=gradient)
    return gradient


def _layout(x: Tensor) -> torch.memory_format:
    return torch.channels_last if x.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format


def features_of(image: Tensor, encoder: "VGG", layers: tuple[str, ...]) -> tuple[Tensor, ...]:
    """Return the features of layers, in network order, differentiable with respect to the picture."""
    return _Features.apply(image, encoder, layers)  # type: ignore[no-any-return]


class _Features(torch.autograd.Function):
    """`Look` as an autograd function."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, encoder: "VGG", layers: tuple[str, ...]) -> tuple[Tensor, ...]:
        found: dict[str, Tensor] = {}
        ctx.look = encoder.look(image, layers, found.__setitem__, keep=ctx.needs_input_grad[0])
        for layer in layers:  # returned tensors would keep themselves alive
            ctx.look.kept.pop(encoder.layers[layer], None)
        ctx.layers = layers
        ctx.save_for_backward(*found.values())
        return tuple(found[k] for k in layers)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        look, of = ctx.look, dict(zip(ctx.layers, grads, strict=True))
        look.kept |= {look.encoder.layers[k]: f for k, f in zip(ctx.layers, ctx.saved_tensors, strict=True)}
        return look.gradient(lambda layer, _, g: g.add_(of[layer])), None, None
