"""The operations that the network (`models.network`) consists of, and how they work on whole pictures.

`models.rows` applies the same operations to strips of rows.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import fill, instance_norm, reflection_pad, statistics_of
from .prepare import BORDER, denoised_inside, mottle

if TYPE_CHECKING:
    from .network import Network

STRIDE, LEAST_SIDE = 4, 24
"""Stride of the deepest features, and the side to which smaller pictures are padded, in pixels."""
NOISE_SIDE = 128
"""Side of the square of noise, in features. It repeats beyond that."""

Features = TypeVar("Features")
Kept = TypeVar("Kept")

Origins = Sequence[tuple[int, int]]
ORIGIN: Origins = ((0, 0),)
"""The origin of pictures that are not part of larger ones."""


class Operations(Protocol[Features, Kept]):
    """The operations that the network consists of, on whole pictures or on rows (`models.rows`).

    Norms and filters take their numbers from the style in the order in which they are called.
    """

    def keep(self, x: Features) -> tuple[Features, Kept]:
        """Return features twice: to continue with, and to `add` later."""
        ...

    def add(self, x: Features, kept: Kept, part: str = "") -> Features:
        """Add kept features, multiplied by a part of the affine."""
        ...

    def denoised(self, image: Features) -> Features:
        """Remove the noise of a photograph, as far as the style says, and append how plain it is as a channel."""
        ...

    def mottled(self, image: Features) -> Features:
        """Add slow changes of light to a photograph, as far as the style says."""
        ...

    def unshuffled(self, image: Features) -> Features:
        """Turn 2x2 pixels into channels."""
        ...

    def convolved(self, x: Features, convolution: nn.Module) -> Features:
        """Apply a 3x3 convolution, padded by reflection."""
        ...

    def norm(self, x: Features) -> Features:
        """Apply the next instance norm, and its ReLU if it has one."""
        ...

    def mix(self, x: Features) -> Features:
        """Add the result of the next low-rank filter, a 1x1 convolution that the style gives."""
        ...

    def noisy(self, x: Features, level: int) -> Features:
        """Add the noise of a resolution: 0 for a quarter, 1 for half."""
        ...

    def enlarged(self, x: Features, convolution: nn.Module) -> Features:
        """Blur, resize to twice the size and convolve."""
        ...

    def pictured(self, x: Features, convolution: nn.Module) -> Features:
        """Convolve, turn channels into 2x2 pixels, and blur."""
        ...

    def softened(self, x: Features) -> Features:
        """Append a picture without its finest detail to a picture."""
        ...

    def finished(self, x: Features, photo: Kept) -> Features:
        """Take the soft picture where the photograph is plain, and add the photograph, each times its part."""
        ...


class StyleOperations:
    """The operations of one forward pass that depend on the style.

    Parameters
    ----------
    net : Network
        The network.
    affine : Tensor
        As for `Network.forward`. With masks, (R, 1, h, w) at the size of the features, there is one for each region.
    """

    def __init__(self, net: "Network", affine: Tensor):
        self.net, self.layout = net, net.layout
        self.parts = {k: affine[:, s] for k, s in net.layout.parts.items()}
        self.norms = self.channels = self.mixed = self.filters = 0
        """Numbers of norms, their channels, filters and their parameters used so far."""

    def next_norm(self) -> tuple[slice, bool]:
        """Return the channels of the next norm among all norms' channels, and whether it has a ReLU."""
        relu, begin = self.norms not in self.layout.linear, self.channels
        self.channels += self.layout.norms[self.norms]
        self.norms += 1
        return slice(begin, self.channels), relu

    def next_filter(self) -> slice:
        """Return the place of the next low-rank filter in the affine's part for filters."""
        begin = self.filters
        if self.layout.mixed:
            self.filters += 2 * self.layout.rank * self.layout.mixed[self.mixed]
            self.mixed += 1
        return slice(begin, self.filters)

    def normed(self, x: Tensor, own: slice, relu: bool, given: Tensor | None, masks: Tensor | None) -> Tensor:
        """Apply an instance norm to features (N, C, H, W), with their own statistics or those given (N or R, 2, C)."""
        scale, shift = self.parts["scale"][:, own], self.parts["shift"][:, own]
        if masks is None:
            return instance_norm(x, scale, shift, relu=relu, statistics=given)
        assert given is not None

        def of(i: list[int]) -> Tensor:
            return instance_norm(x, scale[i], shift[i], relu=relu, statistics=given[i if len(given) > 1 else [0]])

        return by_place(x, masks, of)

    def times(self, x: Tensor, part: str, masks: Tensor | None, number: int | None = None) -> Tensor:
        """Multiply each channel of features or pictures (N, C, H, W) by its number in the affine, or all by one."""
        numbers = self.parts[part] if number is None else self.parts[part][:, number : number + 1]
        factor = numbers.to(x.dtype)[:, :, None, None]
        return x * factor if masks is None else by_place(x, masks, lambda i: x * factor[i])

    def without_noise(self, x: Tensor, bordered: Tensor, masks: Tensor | None) -> Tensor:
        """Remove the noise of pictures (N, 3, H, W), given with a border, too (`models.prepare`): (N, 4, H, W).

        The fourth channel is how plain they are. Three more channels of the pictures are added to them afterwards.
        """
        photo, strokes = x[:, :3], x[:, 3:]
        found, plain = denoised_inside(bordered[:, :3])
        photo = photo + self.times(found - photo, "prepare", masks, 0)
        return torch.cat([photo + strokes if x.shape[1] > 3 else photo, plain], 1)

    def with_mottle(self, x: Tensor, origins: Origins, masks: Tensor | None) -> Tensor:
        """Add slow changes of light to pictures, the first three of (N, 4, H, W) (`models.prepare`)."""
        sides = [torch.arange(n, dtype=torch.float32, device=x.device) for n in x.shape[-2:]]
        rows, columns = (torch.stack([side + o[i] for o in origins]) for i, side in enumerate(sides))
        return self.mottled_by(x, mottle(x[:, :3], rows, columns), masks)

    def mottled_by(self, x: Tensor, change: Tensor, masks: Tensor | None) -> Tensor:
        """Add changes (N, 1, H, W), times their number in the affine, to the first three channels of (N, 4, H, W)."""
        return torch.cat([x[:, :3] + self.times(change, "prepare", masks, 1), x[:, 3:]], 1)

    def made(self, x: Tensor, kept: Tensor, masks: Tensor | None) -> Tensor:
        """Return pictures (N, 3, H, W) of paint and its soft copy (N, 6, H, W), and of photographs (N, 4, H, W)."""
        sharp, soft, photo, plain = x[:, :3], x[:, 3:], kept[:, :3], kept[:, 3:]
        painted = torch.lerp(sharp, soft, plain.to(sharp.dtype))
        return self.times(painted, "paint", masks) + self.times(photo, "photo", masks)

    def with_noise(self, x: Tensor, level: int, origins: Origins, masks: Tensor | None) -> Tensor:
        """Add the noise of one resolution to features (N, C, H, W), so that strokes can form in plain areas.

        It is scaled by the affine's amplitudes (N, K) and mixed by the network's matrix (K, C).
        """
        if not self.net.config.noise:
            return x
        at = STRIDE >> level  # picture pixels per feature pixel
        parts = [_noise_part(self.net.noise[level], row // at, column // at, x) for row, column in origins]
        rows = torch.cat(parts).permute(0, 2, 3, 1)  # (N or 1, H, W, K)
        each = self.parts["noise"][:, self.layout.noise[level], None] * self.net.noises[level]  # (N, K, C)

        def added(each: Tensor) -> Tensor:
            mixed = rows.flatten(1, 2) @ each.to(rows.dtype)
            return x + mixed.view(-1, *rows.shape[1:3], x.shape[1]).permute(0, 3, 1, 2)

        return added(each) if masks is None else by_place(x, masks, lambda i: added(each[i]))

    def filtered(self, x: Tensor, own: slice, masks: Tensor | None) -> Tensor:
        """Add a low-rank filter's result to features (N, C, H, W)."""
        if not self.layout.mixed:
            return x
        c, rank = x.shape[1], self.layout.rank
        numbers = self.parts["filters"][:, own].to(x.dtype)
        first, second = numbers[:, : c * rank].reshape(-1, c, rank), numbers[:, c * rank :].reshape(-1, rank, c)

        def mixed(first: Tensor, second: Tensor) -> Tensor:
            rows = x.permute(0, 2, 3, 1)
            return x + (rows.flatten(1, 2) @ first @ second).view(rows.shape).permute(0, 3, 1, 2)

        return mixed(first, second) if masks is None else by_place(x, masks, lambda i: mixed(first[i], second[i]))


class WholePass(StyleOperations):
    """The operations on whole pictures (N, C, H, W).

    Parameters
    ----------
    net, affine, statistics, masks, origins
        As for `Network.forward`.
    found : list of Tensor, optional
        Receives the statistics that the norms compute.
    """

    def __init__(
        self,
        net: "Network",
        affine: Tensor,
        statistics: Tensor | None,
        masks: Tensor | None,
        origins: Origins,
        found: list[Tensor] | None = None,
    ):
        super().__init__(net, affine)
        self.statistics, self.masks, self.origins, self.found = statistics, masks, origins, found

    def keep(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features twice."""
        return x, x

    def add(self, x: Tensor, kept: Tensor, part: str = "") -> Tensor:
        """Add features, multiplied by a part of the affine."""
        return x + (self.times(kept, part, self._masks(kept)) if part else kept)

    def denoised(self, image: Tensor) -> Tensor:
        """Remove the noise of pictures."""
        with torch.autocast(image.device.type, enabled=False):
            image = image.float()
            return self.without_noise(image, reflection_pad(image, BORDER), self._masks(image))

    def mottled(self, image: Tensor) -> Tensor:
        """Add slow changes of light to pictures."""
        with torch.autocast(image.device.type, enabled=False):
            return self.with_mottle(image, self.origins, self._masks(image))

    def unshuffled(self, image: Tensor) -> Tensor:
        """Turn 2x2 pixels into channels."""
        return F.pixel_unshuffle(image[:, :3], 2).contiguous(memory_format=torch.channels_last)

    def convolved(self, x: Tensor, convolution: nn.Module) -> Tensor:
        """Apply a 3x3 convolution, padded by reflection."""
        return convolution(reflection_pad(x))

    def norm(self, x: Tensor) -> Tensor:
        """Apply the next instance norm, and its ReLU if it has one."""
        own, relu = self.next_norm()
        masks = self._masks(x)
        given = None if self.statistics is None else self.statistics[:, :, own]
        if given is None and (masks is not None or self.found is not None):
            given = statistics_of(x, masks)
        if self.found is not None and given is not None:
            self.found.append(given)
        return self.normed(x, own, relu, given, masks)

    def mix(self, x: Tensor) -> Tensor:
        """Add the result of the next low-rank filter."""
        return self.filtered(x, self.next_filter(), self._masks(x))

    def noisy(self, x: Tensor, level: int) -> Tensor:
        """Add the noise of a resolution."""
        return self.with_noise(x, level, self.origins, self._masks(x))

    def enlarged(self, x: Tensor, convolution: nn.Module) -> Tensor:
        """Blur, resize to twice the size and convolve."""
        return resized_convolution(blurred(x, 1), convolution)

    def pictured(self, x: Tensor, convolution: nn.Module) -> Tensor:
        """Convolve, turn channels into 2x2 pixels, and blur."""
        return blurred(shuffled(convolution(reflection_pad(x, 2))))

    def softened(self, x: Tensor) -> Tensor:
        """Append a picture without its finest detail."""
        return softened_inside(reflection_pad(x, 2))

    def finished(self, x: Tensor, photo: Tensor) -> Tensor:
        """Make the painting."""
        return self.made(x, photo, self._masks(x))

    def _masks(self, x: Tensor) -> Tensor | None:
        """Return the masks (R, 1, H, W) at the size of features."""
        return None if self.masks is None else F.adaptive_avg_pool2d(self.masks, (x.shape[2], x.shape[3]))


class _Affected(Operations[int, int]):
    """Counts the rows at the border of a tile that depend on what is beyond the border."""

    def keep(self, x: int) -> tuple[int, int]:
        return x, x

    def add(self, x: int, kept: int, part: str = "") -> int:
        return max(x, kept)

    def denoised(self, image: int) -> int:
        return image + BORDER

    def mottled(self, image: int) -> int:
        return image

    def unshuffled(self, image: int) -> int:
        return -(-image // 2)

    def convolved(self, x: int, convolution: nn.Module) -> int:
        assert isinstance(convolution, nn.Conv2d)
        return -(-(x + 1) // convolution.stride[0])

    def enlarged(self, x: int, convolution: nn.Module) -> int:
        return 2 * (x + 2)  # one row for the blur, one for the convolution

    def pictured(self, x: int, convolution: nn.Module) -> int:
        return 2 * (x + 2) + 1

    def norm(self, x: int) -> int:
        return x

    def mix(self, x: int) -> int:
        return x

    def noisy(self, x: int, level: int) -> int:
        return x

    def softened(self, x: int) -> int:
        return x + 2

    def finished(self, x: int, photo: int) -> int:
        return max(x, photo)


def affected_rows(net: "Network") -> int:
    """Return how many rows at the border of a tile depend on what is beyond the border, with given statistics."""
    return net.run(_Affected(), 0)


def by_place(x: Tensor, masks: Tensor, of: Callable[[list[int]], Tensor]) -> Tensor:
    """Return the sum over regions i of `of([i])` times the region's mask, (R, 1, H, W) at the size of `x`."""
    found = torch.zeros_like(x)
    for i, mask in enumerate(masks):
        found += mask.to(x.dtype) * of([i])
    return found


def padded(image: Tensor) -> Tensor:
    """Pad pictures or masks by reflection to sides that are multiples of the network's stride."""
    return fill(image, STRIDE, LEAST_SIDE)


def fixed_noise(channels: int) -> Tensor:
    """Return the noise (2, `channels`, side, side) of every network: normal, the same on every machine.

    At half of the size it is blurred by [1, 2, 1] / 4 along both sides. Its finest waves would show as a weave, since
    no blur follows before the picture has its full size.
    """
    shape = (2, channels, NOISE_SIDE, NOISE_SIDE)
    noise = np.random.RandomState(0).standard_normal(shape)
    for axis in (1, 2):
        noise[1] = (np.roll(noise[1], -1, axis) + 2 * noise[1] + np.roll(noise[1], 1, axis)) / 4
    return torch.from_numpy(noise.astype(np.float32))


def _noise_part(noise: Tensor, row: int, column: int, like: Tensor) -> Tensor:
    """Return the part (1, K, H, W) of the repeated noise (K, side, side) that starts at a row and column."""
    rows, columns = (
        (torch.arange(side, device=noise.device) + begin) % NOISE_SIDE
        for side, begin in zip(like.shape[-2:], (row, column), strict=True)
    )
    return noise[:, rows][:, :, columns].to(like.dtype)[None]


def shuffled(x: Tensor) -> Tensor:
    """Turn channels of features (N, 12, H, W) into the 2x2 pixels of pictures (N, 3, 2 H, 2 W), float32."""
    return F.pixel_shuffle(x.float().contiguous(), 2)


def blurred(x: Tensor, pad: int = 0) -> Tensor:
    """Blur features or pictures (N, C, H, W) with [1, 2, 1] / 4 in both directions, then pad by reflection.

    This removes the highest frequency of the grid, +1, -1, +1. In plain areas, where nothing starts a stroke, a network
    would draw such waves, and resizing would turn them into hatching.
    """
    return blurred_inside(reflection_pad(x, pad + 1))


def blurred_inside(x: Tensor) -> Tensor:
    """Blur as `blurred`, without padding: (N, C, H, W) becomes (N, C, H - 2, W - 2)."""
    return filtered_inside(x, (1, 2, 1))


def filtered_inside(x: Tensor, taps: tuple[int, ...]) -> Tensor:
    """Return features or pictures (N, C, H, W), filtered along both sides by taps divided by their sum.

    No padding: H and W get smaller by the number of taps less one. A convolution of each channel, in channels_last,
    takes a tenth of the time of pooling.
    """
    kernel = torch.tensor(taps, dtype=x.dtype, device=x.device) / sum(taps)
    weight = kernel.outer(kernel).expand(x.shape[1], 1, -1, -1).contiguous()
    with torch.autocast(x.device.type, enabled=False):
        return F.conv2d(x.contiguous(memory_format=torch.channels_last), weight, groups=x.shape[1])


def softened_inside(x: Tensor) -> Tensor:
    """Return pictures and their copies without the finest detail: (N, 3, H, W) becomes (N, 6, H - 4, W - 4).

    These are blurred with [1, 4, 6, 4, 1] / 16 in both directions. Where a photograph is plain, detail of this size is
    no stroke. It is the network's own grid, or the optimisation's.
    """
    return torch.cat([x[:, :, 2:-2, 2:-2], filtered_inside(x, (1, 4, 6, 4, 1))], 1)


def resized_convolution(x: Tensor, convolution: nn.Module) -> Tensor:
    """Resize to twice the size bilinearly, then convolve.

    Odena, Dumoulin, Olah, "Deconvolution and Checkerboard Artifacts", Distill 2016. It is computed at the small size,
    as the four phases of the large one. An even large row is 1/4 of the previous small row and 3/4 of its own; an odd
    one is 3/4 of its own and 1/4 of the next. So each phase is a 3x3 convolution of the small rows.

    Parameters
    ----------
    x : Tensor
        (N, I, H + 2, W + 2), padded by one.
    convolution : Conv2d
        3x3, without a bias.

    Returns
    -------
    Tensor
        (N, O, 2 H, 2 W), channels_last.
    """
    assert isinstance(convolution, nn.Conv2d)
    weight = convolution.weight
    outputs, inputs = weight.shape[:2]
    kernel = weight.flatten(2) @ PHASES.to(weight)  # (O, I, 4 * 9)
    kernel = kernel.view(outputs, inputs, 4, 3, 3).permute(2, 0, 1, 3, 4).flatten(0, 1)
    x = F.conv2d(x, kernel.contiguous(memory_format=torch.channels_last))  # (N, 4 O, H, W), phase after phase
    n, _, h, w = x.shape
    x = x.permute(0, 2, 3, 1).reshape(n, h, w, 2, 2, outputs)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(n, 2 * h, 2 * w, outputs).permute(0, 3, 1, 2)


@torch.inference_mode(False)  # in whatever mode the module is first imported
def _phases() -> Tensor:
    """Return the matrix (9, 4 * 9) from the taps of a 3x3 kernel to the taps of the four phases' kernels."""
    rows = torch.tensor([[0.75, 0.25, 0], [0.25, 0.75, 0], [0, 0.75, 0.25], [0, 0.25, 0.75]])  # large by small ones
    taps = torch.stack([rows[0:3].t(), rows[1:4].t()])  # (phase, tap at the small size, tap at the large one)
    return torch.einsum("pas,qbt->stpqab", taps, taps).reshape(9, 36)


PHASES = _phases()
