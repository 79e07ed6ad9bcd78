"""The student of the distillation."""

import math

import torch
from torch import Tensor, nn

from ..device import channels_last
from ..models.vgg import VGG, VGGConfig
from ..options import TrainEncoderOptions
from .optimisers import Optimisers
from .teacher import HINTS, TARGETS, Teacher, sample


class Student(nn.Module):
    """The encoder being trained, its heads in standardised units, and the maps for the hints."""

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

    def errors(self, x: Tensor, targets: dict[str, Tensor], offset: tuple[int, int]) -> dict[str, Tensor]:
        """Layer -> the relative error of its head or hint: mean squared error over the channel's variance."""
        with torch.autocast("cpu", torch.bfloat16):
            features = self.vgg(x, (*TARGETS, *HINTS))
        out = {}
        for layer, f in features.items():
            m = self.vgg.heads[layer] if layer in self.vgg.heads else self.hints[layer]
            out[layer] = (m(sample(f, layer, offset).float()) - targets[layer]).square().mean()
        return out

    def encoder(self, teacher: Teacher) -> VGG:
        """A frozen copy for use: batch norm folded, heads in the teacher's own units."""
        training = self.vgg.training
        self.vgg.eval()
        net = self.vgg.fold_batch_norm() if self.vgg.config.batch_norm else VGG(self.vgg.config, "compact")
        if not self.vgg.config.batch_norm:
            net.load_state_dict(self.vgg.state_dict())
        self.vgg.train(training)
        for layer, head in net.heads.items():
            assert isinstance(head, nn.Conv2d) and head.bias is not None
            std, mean, live = (d[layer].flatten() for d in (teacher.std, teacher.mean, teacher.live))
            head.weight.data *= (std * live)[:, None, None, None]
            head.bias.data = head.bias.data * std * live + mean
        net.requires_grad_(False)
        return channels_last(net.eval())


def optimisers_of(student: Student, o: TrainEncoderOptions) -> Optimisers:
    """Muon for the encoder's convolutions, Adam for its heads, norms, biases and the hints."""
    weights = [conv.weight for _, conv in student.vgg.convolutions()]
    mine = {id(w) for w in weights}
    return Optimisers(weights, o.rate, ([p for p in student.parameters() if id(p) not in mine], o.head_rate))
