"""The graph that is exported: from a photograph to its painting, in operations that every runtime has.

The layers are those of `Network.run`. Only the operations are written differently: plain ones, without branches on the
size, so that one graph paints pictures of any size.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..models.layers import EPSILON
from ..models.network import Network
from ..models.passes import LEAST_SIDE, NOISE_SIDE, PHASES, STRIDE, StyleOperations, WholePass
from ..models.prepare import BORDER, mottle
from ..models.vgg import VGG
from .colours import colours_in, matched
from .photograph import PhotographStyle


class PaintingGraph(nn.Module):
    """Paints photographs.

    Parameters
    ----------
    net : Network
        The network, float32, on the CPU. It is copied.
    encoder : VGG
        The encoder that it was trained with. It measures the photograph for strengths other than 1.
    style : (Tensor, Tensor) or None
        The style of all paintings: its affine (1, `layout.size`) and its colours (1, 3, 4). None makes it an input.
    uint8 : bool
        Whether pictures are (N, H, W, 3), uint8. Otherwise they are (N, 3, H, W), float32, sRGB, in [0, 1].
    dtype : torch.dtype
        The dtype of convolutions and of the features between them, float32 or float16. Statistics are float32.
    measuring : torch.dtype
        The same for the part that measures the photograph.
    """

    def __init__(
        self,
        net: Network,
        encoder: VGG,
        style: tuple[Tensor, Tensor] | None,
        uint8: bool,
        dtype: torch.dtype,
        measuring: torch.dtype,
    ):
        super().__init__()
        self.net, self.uint8, self.dtype = copy.deepcopy(net), uint8, dtype
        self.photograph = PhotographStyle(self.net, encoder, measuring)
        self.net.up = enlarging(net.up)
        for part in (self.net.down, self.net.blocks, self.net.up, self.net.fine, self.net.last):
            part.to(dtype)
        self.register_buffer("affine", None if style is None else style[0])
        self.register_buffer("colours", None if style is None else style[1])
        self.affine: Tensor | None
        self.colours: Tensor | None
        del self.net.summaries, self.net.predictor, self.net.colours, self.net.learnt  # `photograph` has its own

    def forward(
        self, image: Tensor, strength: Tensor, affine: Tensor | None = None, colours: Tensor | None = None
    ) -> Tensor:
        """Paint.

        Parameters
        ----------
        image : Tensor
            (N, H, W, 3), uint8, or (N, 3, H, W), float32, in [0, 1]: photographs of any size, sRGB.
        strength : Tensor
            (N,), float32: 0 for the photograph, 1 for the style, up to 1.5.
        affine, colours : Tensor
            (N, `layout.size`) and (N, 3, 4), float32: each photograph's style. Only without a baked style.

        Returns
        -------
        Tensor
            The paintings, with the shape and type of `image`.
        """
        photo = image.permute(0, 3, 1, 2).float() / 255 if self.uint8 else image.clamp(0, 1)
        count, height, width = photo.shape[0], photo.shape[2], photo.shape[3]
        if affine is None or colours is None:
            assert self.affine is not None and self.colours is not None
            affine, colours = self.affine.expand(count, -1), self.colours.expand(count, -1, -1)
        affine, colours = self.at_strength(photo, strength, affine, colours)
        painted = self.net.run(ExportPass(self.net, affine, self.dtype), filled(photo))
        painted = painted.index_select(2, torch.arange(height)).index_select(3, torch.arange(width))
        painted = matched(painted.float(), colours).clamp(0, 1)
        return (255 * painted).round().to(torch.uint8).permute(0, 2, 3, 1) if self.uint8 else painted

    def at_strength(self, photo: Tensor, strength: Tensor, affine: Tensor, colours: Tensor) -> tuple[Tensor, Tensor]:
        """Return affines (N, P) and colours (N, 3, 4) between the photographs' own and the styles'.

        The photographs are measured only if a strength is not 1.
        """

        def between(photo: Tensor, strength: Tensor, affine: Tensor, colours: Tensor) -> tuple[Tensor, Tensor]:
            own, seen = self.photograph(photo), colours_in(photo)
            share = strength[:, None]
            return (
                own + share * (affine - own),
                seen + share.clamp(max=1)[:, :, None] * (colours - seen),
            )

        def whole(photo: Tensor, strength: Tensor, affine: Tensor, colours: Tensor) -> tuple[Tensor, Tensor]:
            return affine.clone(), colours.clone()

        found = torch.cond((strength != 1).any(), between, whole, (photo, strength, affine, colours))
        return found[0], found[1]


class ExportPass(WholePass):
    """The operations on whole pictures (N, C, H, W), channels first, of any size.

    Parameters
    ----------
    net : Network
        The network.
    affine : Tensor
        (N, `layout.size`), float32.
    dtype : torch.dtype
        The dtype of the features.
    """

    def __init__(self, net: Network, affine: Tensor, dtype: torch.dtype):
        StyleOperations.__init__(self, net, affine)
        self.dtype, self.masks = dtype, None

    def denoised(self, image: Tensor) -> Tensor:
        """Remove the noise of pictures."""
        return self.without_noise(image, reflected(image, BORDER), None)

    def mottled(self, image: Tensor) -> Tensor:
        """Add slow changes of light to pictures."""
        return self.mottled_by(image, mottle(image[:, :3], *self.pixels(image)), None)

    def pixels(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows and columns of pictures (N, C, H, W), float32."""
        rows, columns = (torch.arange(side, dtype=torch.float32) for side in (x.shape[2], x.shape[3]))
        return rows, columns

    def unshuffled(self, image: Tensor) -> Tensor:
        """Turn 2x2 pixels into channels."""
        return F.pixel_unshuffle(image[:, :3], 2).to(self.dtype)

    def convolved(self, x: Tensor, convolution: nn.Module) -> Tensor:
        """Apply a 3x3 convolution, padded by reflection. With a stride of 2, the last row and column are not padded.

        They would not be read, as the sides are even; without them, the exporter sees that the sides are halved.
        """
        last = 0 if isinstance(convolution, nn.Conv2d) and convolution.stride[0] == 2 else 1
        return convolution(F.pad(x, (1, last, 1, last), mode="reflect"))

    def norm(self, x: Tensor) -> Tensor:
        """Apply the next instance norm, and its ReLU if it has one, in float32."""
        own, relu = self.next_norm()
        scale, shift = (self.parts[k][:, own, None, None] for k in ("scale", "shift"))
        y = F.instance_norm(x.float(), eps=EPSILON) * scale + shift
        return (y.relu() if relu else y).to(self.dtype)

    def mix(self, x: Tensor) -> Tensor:
        """Add the result of the next low-rank filter."""
        own = self.next_filter()
        if not self.layout.mixed:
            return x
        c, rank = x.shape[1], self.layout.rank
        numbers = self.parts["filters"][:, own].to(x.dtype)
        first, second = numbers[:, : c * rank].view(-1, c, rank), numbers[:, c * rank :].view(-1, rank, c)
        return x + (second.transpose(1, 2) @ (first.transpose(1, 2) @ x.flatten(2))).view(x.shape)

    def noisy(self, x: Tensor, level: int) -> Tensor:
        """Add the noise of a resolution."""
        if not self.net.config.noise:
            return x
        rows, columns = self.places(x, level)
        noise = self.net.noise[level].index_select(1, rows).index_select(2, columns).to(x.dtype)  # (K, H, W)
        each = self.parts["noise"][:, self.layout.noise[level], None] * self.net.noises[level]  # (N, K, C)
        return x + (each.transpose(1, 2).to(x.dtype) @ noise.flatten(1)).view(-1, *x.shape[1:])

    def places(self, x: Tensor, level: int) -> tuple[Tensor, Tensor]:
        """Return the rows and columns of the noise under features (N, C, H, W) of a resolution."""
        rows, columns = (torch.arange(side) % NOISE_SIDE for side in (x.shape[2], x.shape[3]))
        return rows, columns

    def enlarged(self, x: Tensor, convolution: nn.Module) -> Tensor:
        """Blur, resize to twice the size and convolve."""
        return F.pixel_shuffle(convolution(blurred_inside(reflected(x, 2))), 2)

    def pictured(self, x: Tensor, convolution: nn.Module) -> Tensor:
        """Convolve, turn channels into 2x2 pixels, and blur."""
        return blurred_inside(reflected(F.pixel_shuffle(convolution(reflected(x, 2)).float(), 2)))

    def softened(self, x: Tensor) -> Tensor:
        """Append a picture without its finest detail."""
        return torch.cat([x, blurred_inside(blurred_inside(reflected(x, 2)))], 1)


def filled(image: Tensor) -> Tensor:
    """Pad pictures (N, C, H, W) by reflection, right and below, as `models.passes.padded`."""
    for dim in (2, 3):
        side = image.shape[dim]
        full = STRIDE * torch.sym_max(LEAST_SIDE // STRIDE, (side + STRIDE - 1) // STRIDE)
        period = torch.full((1,), torch.sym_max(1, 2 * (side - 1)))  # exporters know no remainders of sizes themselves
        index = torch.arange(full) % period
        image = image.index_select(dim, torch.minimum(index, period - index))
    return image


def reflected(x: Tensor, pad: int = 1) -> Tensor:
    """Pad both spatial dimensions by reflection."""
    return F.pad(x, (pad,) * 4, mode="reflect")


def blurred_inside(x: Tensor) -> Tensor:
    """Blur as `models.passes.blurred_inside`, by pooling instead of convolving."""
    return F.avg_pool2d(F.avg_pool2d(x, 2, 1), 2, 1)


def enlarging(convolution: nn.Conv2d) -> nn.Conv2d:
    """Return a convolution with four times as many channels: `pixel_shuffle` of its result enlarges and convolves.

    It is that of `models.passes.resized_convolution`, with the channels in the order of `pixel_shuffle`.
    """
    outputs, inputs = convolution.weight.shape[:2]
    found = nn.Conv2d(inputs, 4 * outputs, 3, bias=False)
    found.weight = nn.Parameter(enlarging_kernel(convolution.weight, PHASES).contiguous(), requires_grad=False)
    return found


def enlarging_kernel(weight: Tensor, phases: Tensor) -> Tensor:
    """Return the weights (4 O, I, 3, 3) of `enlarging` from those of the convolution (O, I, 3, 3)."""
    outputs, inputs = weight.shape[:2]
    kernel = (weight.flatten(2) @ phases.to(weight)).view(outputs, inputs, 4, 3, 3).permute(0, 2, 1, 3, 4)
    return kernel.reshape(4 * outputs, inputs, 3, 3)
