"""The student of the distillation."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from ..device import Compute, channels_last
from ..models.vgg import VGG, VGGConfig
from ..options import TrainEncoderOptions
from .optimisers import Optimisers
from .teacher import HINTS, TARGETS, Teacher, sample


class Student(nn.Module):
    """The encoder being trained, with heads in standardised units, and the maps for the hints."""

    def __init__(self, config: VGGConfig, teacher: VGG, seed: int):
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        self.vgg = VGG(config, "compact")
        self.vgg.initialise(g)
        self.hints = nn.ModuleDict({k: nn.Conv2d(self.vgg.width(k), teacher.width(k), 1) for k in HINTS})
        for m in [*self.vgg.heads.values(), *self.hints.values()]:
            assert isinstance(m, nn.Conv2d) and m.bias is not None
            m.weight.data.normal_(0, math.sqrt(0.5 / m.in_channels), generator=g)
            m.bias.data.zero_()
        self.requires_grad_(True)
        channels_last(self)

    def errors(
        self, x: Tensor, targets: dict[str, Tensor], offset: tuple[int, int], compute: Compute
    ) -> dict[str, Tensor]:
        """Return the relative error of each layer's head or hint: mean squared error over the channel's variance."""
        with compute.autocast():
            features = self.vgg(x, (*TARGETS, *HINTS))
        out = {}
        for layer, f in features.items():
            m = self.vgg.heads[layer] if layer in self.vgg.heads else self.hints[layer]
            out[layer] = (m(sample(f, layer, offset).float()) - targets[layer]).square().mean()
        return out

    def fold(self) -> None:
        """Fold the batch norm into the convolutions."""
        self.vgg = channels_last(self.vgg.fold_batch_norm().requires_grad_(True).to(self.vgg.mean.device))

    def encoder(self, teacher: Teacher) -> VGG:
        """Return a frozen copy for use: batch norm folded, heads in the teacher's units."""
        if self.vgg.config.batch_norm:
            net = self.vgg.fold_batch_norm()
        else:
            net = VGG(self.vgg.config, "compact")
            net.load_state_dict(self.vgg.state_dict())
        net.to(self.vgg.mean.device)
        for layer, head in net.heads.items():
            assert isinstance(head, nn.Conv2d) and head.bias is not None
            scale, mean = (teacher.std[layer] * teacher.live[layer]).flatten(), teacher.mean[layer].flatten()
            head.weight.data *= scale[:, None, None, None]
            head.bias.data = head.bias.data * scale + mean
        net.requires_grad_(False)
        return channels_last(net.eval())


@torch.no_grad()
def fit_heads(net: VGG, teacher: Teacher, batches: Iterable[Tensor], compute: Compute) -> None:
    """Fit an encoder's heads to the teacher by least squares, the optimum for its features on these batches.

    Parameters
    ----------
    net : VGG
        The encoder; its heads are modified.
    teacher : Teacher
        The teacher.
    batches : iterable of Tensor
        (N, 3, S, S) each.
    compute : Compute
        Device and precision.
    """
    sums: dict[str, tuple[Tensor, Tensor]] = {}
    for i, x in enumerate(batches):
        offset = (i % 8, i // 8 % 8)
        targets = teacher.targets(x, offset)
        with compute.autocast():
            features = net(x, TARGETS)
        for k in TARGETS:
            f = sample(features[k], k, offset).permute(1, 0, 2, 3).flatten(1).cpu().double()
            f = torch.cat([f, f.new_ones(1, f.shape[1])])  # (C + 1, pixels)
            y = targets[k].permute(1, 0, 2, 3).flatten(1).cpu().double()
            a, b = sums.get(k, (0.0, 0.0))
            sums[k] = (a + f @ f.t() / f.shape[1], b + y @ f.t() / f.shape[1])
    for k, (a, b) in sums.items():
        ridge = 1e-6 * torch.diag(a.diagonal().clamp(min=1e-9 * float(a.diagonal().max())))
        head = net.heads[k]
        assert isinstance(head, nn.Conv2d) and head.bias is not None
        solution = torch.linalg.solve(a + ridge, b.t()).t().to(head.weight)
        scale, mean = (teacher.std[k] * teacher.live[k]).flatten(), teacher.mean[k].flatten()
        head.weight.data = (solution[:, :-1] * scale[:, None])[:, :, None, None]
        head.bias.data = solution[:, -1] * scale + mean


def optimisers_of(student: Student, o: TrainEncoderOptions) -> Optimisers:
    """Return the optimisers: Muon for the encoder's convolutions, Adam for its heads, norms, biases and the hints."""
    weights = [conv.weight for _, conv in student.vgg.convolutions()]
    mine = {id(w) for w in weights}
    return Optimisers(weights, o.rate, ([p for p in student.parameters() if id(p) not in mine], o.small_rate))
