"""The graphs that the page runs: one reads a picture's style, one turns it into the network's numbers, one paints.

Pictures are float32 here, so that a graph runs on a GPU, too. A large painting is painted in tiles, by two more graphs:
one measures samples of the photograph, the other paints a tile with the statistics that were measured.

A style is described by one vector, its **reading**: what the predictor and the colours need of the raw moments M of
each layer. These are the means m, the second moments diag(M), those along the learnt directions, d^T M d, and the
colours' second moments W M W^T. The reading is linear in M, so styles interpolate as they do in Impasto. It has 1,097
numbers where the moments have 32,000.
"""

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...models.layers import EPSILON
from ...models.network import LEAST_VARIANCE, Network, StyleSummary
from ...models.passes import NOISE_SIDE, PHASES, STRIDE
from ...models.vgg import VGG
from ..colours import matched, transport
from ..graph import ExportPass, enlarging, enlarging_kernel, filled
from ..photograph import PhotographStyle

SAMPLE_SIDE, SAMPLE_MARGIN = 256, 32
"""Side of the samples of a large photograph in pixels, and the width of their border, which is not measured."""


class ReadingGraph(nn.Module):
    """Reads a style from a picture.

    Parameters
    ----------
    net, encoder
        The network and its encoder.
    """

    def __init__(self, net: Network, encoder: VGG):
        super().__init__()
        self.look = PhotographStyle(net, encoder, torch.float32)
        del self.look.predictor
        self.register_buffer("colour", net.colours.weight.clone())
        self.colour: Tensor

    def forward(self, picture: Tensor) -> Tensor:
        """Return the reading (1, R) of a picture (1, 3, H, W), float32, sRGB in [0, 1]."""
        return self.read(self.look.measured(picture))

    def read(self, moments: dict[str, Tensor]) -> Tensor:
        """Return the readings (N, R) of raw moments (N, C + 1, C + 1) of each layer."""
        parts = []
        for layer in self.look.layers:
            found, summary = moments[layer], self.look.summaries[layer]
            assert isinstance(summary, StyleSummary)
            squares, directions = found[:, :-1, :-1], summary.directions
            along = ((directions @ squares) * directions).sum(2)
            diagonal = (squares * torch.eye(squares.shape[1]).to(squares)).sum(2)
            parts += [found[:, :-1, -1], diagonal, along]
        first = moments[self.look.layers[0]][:, :-1, :-1]
        return torch.cat([*parts, (self.colour @ first @ self.colour.t()).flatten(1)], 1)


class PredictingGraph(nn.Module):
    """Turns a reading into an affine and colours, as `Network.predict` and `Network.style_colours` do with moments."""

    def __init__(self, net: Network):
        super().__init__()
        self.layers = dict(net.config.layers)
        self.summaries, self.predictor = copy.deepcopy(net.summaries), copy.deepcopy(net.predictor)
        self.colours, self.left_out = copy.deepcopy(net.colours), net.layout.size - net.layout.predicted

    def forward(self, reading: Tensor) -> tuple[Tensor, Tensor]:
        """Return the affine (1, `layout.size`) and the colours (1, 3, 4) of a reading (1, R), all float32."""
        seen, begin, first = [], 0, None
        for layer, channels in self.layers.items():
            summary = self.summaries[layer]
            assert isinstance(summary, StyleSummary)
            mean, diagonal, along = reading[:, begin : begin + 4 * channels].split(
                [channels, channels, 2 * channels], 1
            )
            begin += 4 * channels
            first = mean if first is None else first
            variances = torch.cat([diagonal - mean**2, along - (mean @ summary.directions.t()) ** 2], 1)
            raw = torch.cat([mean, 0.5 * (variances.clamp(min=0) + LEAST_VARIANCE).log()], 1)
            seen.append((raw - summary.mean) / summary.deviation)
        assert first is not None
        centre = first @ self.colours.weight.t()  # (1, 3), without the bias
        covariance = reading[:, begin:].view(-1, 3, 3) - centre[:, :, None] * centre[:, None, :]
        colours = torch.cat([covariance, (centre + self.colours.bias)[:, :, None]], 2)
        return F.pad(self.predictor(torch.cat(seen, 1)), (0, self.left_out), value=1.0), colours


class RowConvolution(nn.Module):
    """A 3x3 convolution of stride 1 that computes four rows at a time, with half the multiplications.

    It is Winograd's minimal filtering F(4, 3) along the columns (Lavin, Gray, "Fast Algorithms for Convolutional Neural
    Networks", CVPR 2016). WebAssembly multiplies four numbers at a time, so multiplications are what takes time there.

    Parameters
    ----------
    convolution : Conv2d
        3x3, stride 1, without a bias.
    enlarge : bool
        Whether to convolve as `graph.enlarging` does.
    """

    def __init__(self, convolution: nn.Conv2d, enlarge: bool = False):
        super().__init__()
        self.weight, self.enlarge = convolution.weight, enlarge
        self.register_buffer("filters", torch.tensor(FILTERS), persistent=False)
        self.register_buffer("phases", PHASES.clone(), persistent=False)
        self.filters: Tensor
        self.phases: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, O, H, W) from padded features (N, I, H + 2, W + 2)."""
        weight = enlarging_kernel(self.weight, self.phases) if self.enlarge else self.weight
        outputs, inputs = weight.shape[:2]
        kernel = self.filters @ weight.permute(2, 0, 1, 3).flatten(1)  # (6, O * I * 3); runtimes compute it once
        height = x.shape[2] - 2
        begins, last = 4 * torch.arange((height + 3) // 4), torch.full((1,), x.shape[2] - 1)
        a, b, c, d, e, f = (x.index_select(2, torch.minimum(begins + i, last)) for i in range(6))
        streams = (
            4 * a - 5 * c + e,
            d + e - 4 * (b + c),
            4 * (b - c) - d + e,
            2 * (d - b) - c + e,
            2 * (b - d) - c + e,
            4 * b - 5 * d + f,
        )
        found = F.conv2d(torch.cat(streams, 1), kernel.view(6 * outputs, inputs, 1, 3), groups=6)
        a, b, c, d, e, f = found.chunk(6, 1)
        near, near_odd, far, far_odd = b + c, b - c, d + e, d - e
        rows = torch.cat([a + near + far, near_odd + 2 * far_odd, near + 4 * far, near_odd + 8 * far_odd + f], 2)
        row = torch.arange(height)
        return rows.index_select(2, row % 4 * a.shape[2] + row // 4)


FILTERS = (
    (1 / 4, 0.0, 0.0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0.0, 0.0, 1.0),
)
"""From the three taps of a kernel to the six of the streams."""


class _Painter(nn.Module):
    """A copy of a network, prepared for export.

    Parameters
    ----------
    net : Network
        The network.
    fast : bool
        Whether the convolutions compute four rows at a time. The results differ by rounding.
    """

    def __init__(self, net: Network, fast: bool = True):
        super().__init__()
        self.net = copy.deepcopy(net)
        del self.net.summaries, self.net.predictor, self.net.colours, self.net.learnt
        if fast:
            parts = (self.net.down, self.net.blocks, self.net.fine)
            for part, i in ((p, i) for p in parts for i, c in enumerate(p) if cast(nn.Conv2d, c).stride[0] == 1):
                part[i] = RowConvolution(cast(nn.Conv2d, part[i]))
        self.net.up = cast(nn.Conv2d, RowConvolution(net.up, enlarge=True)) if fast else enlarging(net.up)


class WholeGraph(_Painter):
    """Paints a whole photograph."""

    def forward(self, image: Tensor, affine: Tensor, colours: Tensor) -> Tensor:
        """Return the painting (1, 3, H, W) in [0, 1].

        Parameters
        ----------
        image : Tensor
            (1, 3, H, W), float32, sRGB in [0, 1], of any size.
        affine, colours : Tensor
            (1, `layout.size`) and (1, 3, 4), float32.
        """
        painted = self.net.run(ExportPass(self.net, affine, torch.float32), filled(image))
        return matched(cropped(painted, image), colours).clamp(0, 1)


class SamplesGraph(_Painter):
    """Measures samples of a large photograph, painted together."""

    def forward(self, image: Tensor, affine: Tensor, origins: Tensor) -> tuple[Tensor, Tensor]:
        """Return the norms' means and variances (1, 2, `channels`), and the painted colours' (1, 3, 4).

        Parameters
        ----------
        image : Tensor
            (N, 3, `SAMPLE_SIDE`, `SAMPLE_SIDE`), float32, sRGB in [0, 1].
        affine : Tensor
            (1, `layout.size`), float32.
        origins : Tensor
            (N, 2), int64: row and column of each sample's first pixel in the photograph.
        """
        o = SamplesPass(self.net, affine, origins)
        painted = inner(self.net.run(o, image), SAMPLE_SIDE)
        mean = painted.mean((0, 2, 3))
        rows = (painted - mean[:, None, None]).permute(0, 2, 1, 3)  # (N, H, 3, W), summed row by row
        covariance = (rows @ rows.transpose(2, 3)).mean((0, 1)) / painted.shape[3]
        return torch.cat(o.found, 2), torch.cat([covariance, mean[:, None]], 1)[None]


class TileGraph(_Painter):
    """Paints a tile of a large photograph with statistics that were measured before."""

    def forward(
        self, image: Tensor, affine: Tensor, colours: Tensor, statistics: Tensor, painted: Tensor, origin: Tensor
    ) -> Tensor:
        """Return the painting (1, 3, H, W) of a tile, in [0, 1].

        Parameters
        ----------
        image, affine, colours
            As for `WholeGraph`.
        statistics, painted : Tensor
            What `SamplesGraph` returned.
        origin : Tensor
            (2,), int64: row and column of the tile's first pixel in the photograph, multiples of 4.
        """
        found = self.net.run(TilePass(self.net, affine, statistics, origin), filled(image))
        found = cropped(found, image)
        matrix = transport(painted[:, :, :3], colours[:, :, :3])
        mapped = matrix @ (found - painted[:, :, 3:, None]).flatten(2)
        return (mapped.view(found.shape) + colours[:, :, 3:, None]).clamp(0, 1)


class SamplesPass(ExportPass):
    """The operations on samples: norms take their statistics from all of them together, without the borders."""

    def __init__(self, net: Network, affine: Tensor, origins: Tensor):
        super().__init__(net, affine, torch.float32)
        self.origins, self.found = origins, list[Tensor]()

    def pixels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows (N, H) and columns (N, W) of samples (N, C, H, W) in the photograph, float32."""
        rows, columns = (self.origins[:, i, None] + torch.arange(x.shape[2 + i], dtype=torch.float32) for i in range(2))
        return rows, columns

    def norm(self, x: Tensor) -> Tensor:
        """Apply the next instance norm with the statistics of all samples."""
        own, relu = self.next_norm()
        measured = inner(x, x.shape[3])
        mean = measured.mean((0, 2, 3))
        variance = (measured - mean[:, None, None]).square().mean((0, 2, 3))
        self.found.append(torch.stack([mean, variance])[None])
        return normed(self, x, own, relu, self.found[-1])


class TilePass(ExportPass):
    """The operations on a tile."""

    def __init__(self, net: Network, affine: Tensor, statistics: Tensor, origin: Tensor):
        super().__init__(net, affine, torch.float32)
        self.statistics, self.origin = statistics, origin

    def norm(self, x: Tensor) -> Tensor:
        """Apply the next instance norm with the given statistics."""
        own, relu = self.next_norm()
        assert self.statistics is not None
        return normed(self, x, own, relu, self.statistics[:, :, own])

    def pixels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows and columns of a tile (1, C, H, W) in the photograph, float32."""
        rows, columns = (torch.arange(x.shape[2 + i], dtype=torch.float32) + self.origin[i] for i in range(2))
        return rows, columns

    def places(self, x: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Return the rows and columns of the noise under a tile's features (1, C, H, W)."""
        begin = self.origin // (STRIDE >> level)
        rows, columns = ((torch.arange(x.shape[2 + i]) + begin[i]) % NOISE_SIDE for i in range(2))
        return rows, columns


def normed(o: ExportPass, x: Tensor, own: slice, relu: bool, statistics: Tensor) -> Tensor:
    """Apply an instance norm to features (N, C, H, W) with statistics (1, 2, C)."""
    mean, variance = statistics[:, 0, :, None, None], statistics[:, 1, :, None, None]
    gain = o.parts["scale"][:, own, None, None] * (variance + EPSILON).rsqrt()
    y = x * gain + (o.parts["shift"][:, own, None, None] - mean * gain)
    return y.relu() if relu else y


def inner(x: Tensor, side: int) -> Tensor:
    """Return features (N, C, side, side) of samples without their borders."""
    margin = SAMPLE_MARGIN * side // SAMPLE_SIDE
    return x[:, :, margin : side - margin, margin : side - margin]


def cropped(painted: Tensor, image: Tensor) -> Tensor:
    """Return a painting without the padding of its photograph."""
    rows, columns = (torch.arange(image.shape[dim]) for dim in (2, 3))
    return painted.index_select(2, rows).index_select(3, columns)
