"""The teacher of the compact encoder: a pruned VGG-19, and its features as standardised targets.

The network is from "Collaborative Distillation for Ultra-Resolution Universal Style Transfer" (Wang, Li, Wang, Hu,
Yang, CVPR 2020): a VGG-19 with a quarter of the width, and 1x1 heads to the original's channels.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ..device import Compute, channels_last
from ..errors import TrainingError
from ..models.vgg import CONTENT_LAYER, STYLE_LAYERS, VGG, VGGConfig, block_of
from ..models.weights import MODELS

TARGETS = (*STYLE_LAYERS, CONTENT_LAYER)
"""Targets of the student's heads: the teacher's head outputs at the style layers, its features at relu4_2."""

HINTS = ("relu1_2", "relu2_2", "relu3_2", "relu3_3", "relu3_4", "relu4_3", "relu4_4")
"""Layers in between, compared through learned 1x1 maps that are discarded afterwards."""

SAMPLING = {1: 8, 2: 4, 3: 2, 4: 1, 5: 1}
"""Block -> stride at which feature pixels are sampled for the loss."""


def load_teacher(path: Path) -> VGG:
    """Load the pruned VGG-19 as a `VGG`. Its 1x1 input map is folded into the first convolution, exactly.

    Raises
    ------
    TrainingError
        If the file is missing or is not that network.
    """
    if str(path) in MODELS and not path.exists():
        raise TrainingError(f"{path} is not a teacher; --teacher takes the file of the pruned VGG-19 (.safetensors)")
    try:
        state = load_file(path)
        widths = tuple(state[f"conv{b}1.weight"].shape[0] for b in range(1, 6))
        heads = {k: state[f"conv{block_of(k)}1_aux.weight"].shape[0] for k in STYLE_LAYERS}
        config = VGGConfig(widths, (2, 2, 4, 4, 1), heads, padding="reflect", mean=(0, 0, 0), std=(1, 1, 1))
        net = VGG(config, "teacher")
        for name, conv in net.convolutions():
            key = name.replace("_", "")
            weight, bias = state[f"{key}.weight"], state[f"{key}.bias"]
            if name == "conv1_1":
                colours, shift = state["conv0.weight"].flatten(1), state["conv0.bias"]
                bias = bias + torch.einsum("oihw,i->o", weight, shift)
                weight = torch.einsum("oihw,ij->ojhw", weight, colours)
            conv.load_state_dict({"weight": weight, "bias": bias})
        for layer, head in net.heads.items():
            key = f"conv{block_of(layer)}1_aux"
            head.load_state_dict({"weight": state[f"{key}.weight"], "bias": state[f"{key}.bias"]})
    except (OSError, KeyError, RuntimeError, ValueError, SafetensorError) as error:
        raise TrainingError(f"{path} is not the pruned VGG-19 teacher: {error}") from error
    return channels_last(net)


class Teacher:
    """The teacher's features at sampled pixels, each channel standardised over the training pictures.

    Parameters
    ----------
    net : VGG
        The network, on the device.
    compute : Compute
        Device and precision.
    """

    def __init__(self, net: VGG, compute: Compute):
        self.net, self.compute = net, compute
        self.mean: dict[str, Tensor] = {}
        self.std: dict[str, Tensor] = {}
        self.live: dict[str, Tensor] = {}

    @torch.no_grad()
    def targets(self, x: Tensor, offset: tuple[int, int]) -> dict[str, Tensor]:
        """Return layer -> targets (N, C, h, w): head outputs at the style layers, the network's features elsewhere."""
        with self.compute.autocast():
            features = self.net(x, (*TARGETS, *HINTS))
        out = {}
        for layer, f in features.items():
            f = sample(f, layer, offset).float()
            out[layer] = self.net.heads[layer](f) if layer in self.net.heads else f
        if not self.mean:
            return out
        return {k: (v - self.mean[k]) / self.std[k] * self.live[k] for k, v in out.items()}

    def calibrate(self, batches: Iterable[Tensor]) -> None:
        """Measure each channel's mean and deviation, and mark channels that never fire as not alive."""
        sums: dict[str, list[Tensor]] = {}
        for x in batches:
            for k, v in self.targets(x, (0, 0)).items():
                sums.setdefault(k, []).append(torch.stack([v.mean((0, 2, 3)), v.square().mean((0, 2, 3))]))
        for k, values in sums.items():
            mean, square = torch.stack(values).mean(0)
            variance = square - mean.square()
            live = variance > 1e-4 * variance.mean()
            self.live[k] = live.float()[:, None, None]
            self.mean[k] = mean[:, None, None]
            self.std[k] = torch.where(live, variance, 1.0).sqrt()[:, None, None]


def sample(features: Tensor, layer: str, offset: tuple[int, int]) -> Tensor:
    """Return every s-th pixel of a feature map along each side, starting at an offset."""
    s = SAMPLING[block_of(layer)]
    return features[:, :, offset[0] % s :: s, offset[1] % s :: s]
