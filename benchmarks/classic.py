"""The classic fast-neural-style network as run by public code: the baseline for other networks.

Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016: 32 channels
after the first convolution, 9x9 kernels at both ends, five residual blocks; with instance norm, and with nearest
neighbour resizing and a convolution instead of each transposed convolution. Its weights are random, which does not
affect the time.
"""

from torch import Tensor, nn


class Block(nn.Module):
    """Optional resizing, reflection padding, a convolution, and, unless it is the last, instance norm and ReLU."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1, larger: bool = False, last: bool = False):
        super().__init__()
        layers: list[nn.Module] = [nn.Upsample(scale_factor=2)] if larger else []
        layers += [nn.ReflectionPad2d(side // 2), nn.Conv2d(inputs, outputs, side, stride)]
        layers += [] if last else [nn.InstanceNorm2d(outputs, affine=True), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, O, H', W') from (N, I, H, W)."""
        return self.layers(x)


class Residual(nn.Module):
    """Two convolutions, added to their input."""

    def __init__(self, width: int):
        super().__init__()
        second = Block(width, width, 3, last=True)
        self.layers = nn.Sequential(Block(width, width, 3), second, nn.InstanceNorm2d(width, affine=True))

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W) from (N, C, H, W)."""
        return x + self.layers(x)


def classic(w: int = 32) -> nn.Module:
    """Return the network, with w channels after the first convolution."""
    down = [Block(3, w, 9), Block(w, 2 * w, 3, 2), Block(2 * w, 4 * w, 3, 2)]
    up = [Block(4 * w, 2 * w, 3, larger=True), Block(2 * w, w, 3, larger=True), Block(w, 3, 9, last=True)]
    return nn.Sequential(*down, *(Residual(4 * w) for _ in range(5)), *up).eval()
