"""Colour spaces, and colour transfer between pictures.

A painting can keep the colours of its photo pixel by pixel (`keep_colours`), and a picture can take the palette of
another one (`match_palette`). These are the two methods of Gatys, Bethge, Hertzmann, Shechtman, "Preserving Color in
Neural Artistic Style Transfer", arXiv:1606.05897, 2016.

OKLab is from B. Ottosson, "A perceptual color space for image processing", 2020: lightness L in [0, 1]; a and b, whose
distance from grey is the chroma, up to 0.33 in sRGB. YCbCr follows ITU-R BT.601 at full range, as in JPEG, but Cb and
Cr are centred on 0, in [-0.5, 0.5].
"""

from collections.abc import Callable
from functools import reduce
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import OptionError
from .resize import resize

ColourMap = Callable[[Tensor], Tensor]
Space = Literal["oklab", "ycbcr"]
Match = Literal["covariance", "histogram"]

LINEAR_TO_LMS = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
ROOTS_TO_OKLAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
RGB_TO_YCBCR = (
    (0.299, 0.587, 0.114),
    (-0.299 / 1.772, -0.587 / 1.772, 0.5),
    (0.5, -0.587 / 1.402, -0.114 / 1.402),
)
MOST_SHIFT = 0.05
"""Largest change of lightness or luma with which `keep_colours` saves chroma. At 0, about twice the chroma is lost."""
TOLERANCE, HALVINGS = 1e-5, 12
"""Rounding tolerance of the gamut test, and number of bisection steps of the search for the gamut's border."""
LEVEL = 1 / 255
"""One level of 8 bits. Smaller differences of colour count as noise, which palette matching must not amplify."""
MOST_PIXELS, STRIP = 2**18, 2**18
"""Number of pixels sampled to measure a palette, and number of pixels processed at once."""
QUANTILES, ROTATIONS = 1024, 10
"""Settings of the histogram match: 5 rotations leave 3.5 % of the sliced distance, 10 leave 2.8 %, 20 leave 2.1 %."""


FIT_RIDGE = 1e-3
"""Weight, for each pixel, with which `fit_colours` keeps the colours as they are."""


def to_linear(picture: Tensor) -> Tensor:
    """Convert sRGB to linear light by IEC 61966-2-1: (N, 3, H, W), float32, both in [0, 1]."""
    _check(picture)
    return torch.where(picture <= 0.04045, picture / 12.92, ((picture.clamp(min=0) + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: Tensor) -> Tensor:
    """Convert linear light to sRGB by IEC 61966-2-1: (N, 3, H, W), float32, clamped to [0, 1]."""
    _check(linear)
    x = linear.clamp(0, 1)
    return torch.where(x <= 0.0031308, x * 12.92, 1.055 * x.clamp(min=0.0031308) ** (1 / 2.4) - 0.055).clamp(max=1)


def srgb_to_oklab(picture: Tensor) -> Tensor:
    """Convert sRGB, (N, 3, H, W), float32, [0, 1], to OKLab: channels L, a, b. There is no gradient at black."""
    return _mix(ROOTS_TO_OKLAB, _mix(LINEAR_TO_LMS, to_linear(picture)).clamp(min=0) ** (1 / 3))


def oklab_to_srgb(lab: Tensor) -> Tensor:
    """Convert OKLab to sRGB, (N, 3, H, W), float32, [0, 1].

    Colours outside sRGB lose chroma and keep their lightness and hue. Lightness outside [0, 1] gives black or white.
    """
    _check(lab)
    return to_srgb(_oklab_to_linear(_into_gamut(lab, _oklab_to_linear)))


def srgb_to_ycbcr(picture: Tensor) -> Tensor:
    """Convert sRGB, (N, 3, H, W), float32, [0, 1], to YCbCr: Y in [0, 1], Cb and Cr in [-0.5, 0.5]."""
    _check(picture)
    return _mix(RGB_TO_YCBCR, picture)


def ycbcr_to_srgb(ycbcr: Tensor) -> Tensor:
    """Convert YCbCr to sRGB, (N, 3, H, W), float32; red, green and blue are clamped to [0, 1]."""
    _check(ycbcr)
    return _ycbcr_to_rgb(ycbcr).clamp(0, 1)


def _oklab_to_linear(lab: Tensor) -> Tensor:
    return _mix(LINEAR_TO_LMS, _mix(ROOTS_TO_OKLAB, lab, inverse=True) ** 3, inverse=True)


def _ycbcr_to_rgb(ycbcr: Tensor) -> Tensor:
    return _mix(RGB_TO_YCBCR, ycbcr, inverse=True)


def _mix(matrix: tuple[tuple[float, ...], ...], x: Tensor, inverse: bool = False) -> Tensor:
    m = torch.tensor(matrix, dtype=torch.float64)
    return torch.einsum("ij,nj...->ni...", (torch.linalg.inv(m) if inverse else m).to(x), x)


def _into_gamut(colours: Tensor, to_rgb: ColourMap, lightness: Tensor | None = None) -> Tensor:
    """Move colours (N, 3, H, W) of a space like OKLab into the gamut, where red, green and blue are in [0, 1].

    Colours outside first move towards `lightness` (N, H, W), at which their chroma exists: no further than needed, and
    by at most `MOST_SHIFT`. Then they lose chroma.
    """
    colours = torch.cat([colours[:, :1].clamp(0, 1), colours[:, 1:]], 1)
    outside = ~_inside(to_rgb(colours))  # (N, H, W)
    points = colours.movedim(1, -1)
    wanted, grey_axis = points[outside], colours.new_tensor((1, 0, 0))  # (P, 3)
    if lightness is not None:
        shift = (lightness[outside] - wanted[:, 0]).clamp(-MOST_SHIFT, MOST_SHIFT)
        wanted = _towards(wanted, wanted + shift[:, None] * grey_axis, to_rgb)
    points[outside] = _towards(wanted, wanted * grey_axis, to_rgb)
    return colours


def _towards(start: Tensor, end: Tensor, to_rgb: ColourMap) -> Tensor:
    """Return the first points inside the gamut on the lines from start to end, all (P, 3), or the end."""
    low, high = torch.zeros_like(start[:, :1]), torch.ones_like(start[:, :1])
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        inside = _inside(to_rgb(torch.lerp(start, end, middle)))[:, None]
        low, high = torch.where(inside, low, middle), torch.where(inside, middle, high)
    return torch.where(_inside(to_rgb(start))[:, None], start, torch.lerp(start, end, high))


def _inside(rgb: Tensor) -> Tensor:
    return ((rgb >= -TOLERANCE) & (rgb <= 1 + TOLERANCE)).all(1)


_SPACES: dict[str, tuple[ColourMap, ColourMap, ColourMap]] = {  # sRGB to it; it to RGB, a cube; that RGB to sRGB
    "oklab": (srgb_to_oklab, _oklab_to_linear, to_srgb),
    "ycbcr": (srgb_to_ycbcr, _ycbcr_to_rgb, lambda rgb: rgb.clamp(0, 1)),
}


@torch.no_grad()
def keep_colours(painting: Tensor, photo: Tensor, space: Space = "oklab", strength: float = 1.0) -> Tensor:
    """Return the painting with its own light and shade in the colours of its photo (Gatys et al. 2016, luminance-only).

    If a colour is outside sRGB, its lightness moves towards the photo's, by at most 0.05. Then it loses chroma.

    Parameters
    ----------
    painting : Tensor
        (N, 3, H, W), float32, sRGB, [0, 1]: gives L or Y.
    photo : Tensor
        (1 or N, 3, H', W'), float32, sRGB, [0, 1]: gives a and b, or Cb and Cr; resized to the painting.
    space : {"oklab", "ycbcr"}
        OKLab preserves perceived lightness better; YCbCr is customary in the field.
    strength : float
        0 returns the painting, 1 uses the photo's chroma; values between interpolate the chroma in that space.

    Raises
    ------
    OptionError
        If a picture has another shape or dtype, the space is unknown, or the strength is not in [0, 1].
    """
    _check_transfer(painting, photo, space, get_args(Space), strength)
    if strength == 0:
        return painting
    photo = resize(photo, (painting.shape[2], painting.shape[3])).expand_as(painting)
    of, to_rgb, to_picture = _SPACES[space]
    rows, strips = max(1, STRIP // painting[:, 0, 0].numel()), []
    for x, c in zip(painting.split(rows, 2), photo.split(rows, 2), strict=True):
        light, colour = of(x), of(c)
        mixed = torch.cat([light[:, :1], torch.lerp(light[:, 1:], colour[:, 1:], strength)], 1)
        strips.append(to_picture(to_rgb(_into_gamut(mixed, to_rgb, lightness=colour[:, 0]))))
    return torch.cat(strips, 2)


@torch.no_grad()
def match_palette(picture: Tensor, reference: Tensor, method: Match = "covariance", strength: float = 1.0) -> Tensor:
    """Return the picture in the palette of the reference, by one map of sRGB colours for the whole picture.

    Parameters
    ----------
    picture, reference : Tensor
        (N, 3, H, W) and (1 or N, 3, H', W'), float32, sRGB, [0, 1]. At most 2^18 pixels of each are measured. Both may
        have an alpha channel as the fourth; pixels with an alpha below 0.5 are not measured.
    method : {"covariance", "histogram"}
        A linear match of mean and covariance, or a match of the whole distribution, which can amplify noise.
    strength : float
        0 returns the picture, 1 the full match; values between mix the two.

    Raises
    ------
    OptionError
        If a picture has another shape or dtype, the method is unknown, or the strength is not in [0, 1].
    """
    _check_transfer(picture[:, :3], reference[:, :3], method, get_args(Match), strength)
    if strength == 0:
        return picture
    fit, matched = {"covariance": _monge_kantorovich, "histogram": _distribution_transfer}[method], []
    for x, y in zip(picture, reference.expand(len(picture), -1, -1, -1), strict=True):
        recoloured = fit(_sample(x), _sample(y))
        strips = [torch.lerp(s, recoloured(s).clamp(0, 1), strength) for s in x[:3].flatten(1).split(STRIP, 1)]
        matched.append(torch.cat((torch.cat(strips, 1).view_as(x[:3]), x[3:])))
    return torch.stack(matched)


def _sample(picture: Tensor) -> Tensor:
    """Sample the visible pixels of (3 or 4, H, W), the same ones in every run: (3, P), float64, on the CPU."""
    x = picture.flatten(1)
    if len(x) == 4:
        x = x[:3, x[3] >= min(0.5, float(x[3].max()))]
    if x.shape[1] > MOST_PIXELS:
        x = x[:, torch.randint(x.shape[1], (MOST_PIXELS,), generator=torch.Generator().manual_seed(0)).to(x.device)]
    return x.cpu().double()


def _monge_kantorovich(x: Tensor, y: Tensor) -> ColourMap:
    """Return the linear optimal-transport map from mean and covariance (m, C) of x to (m', S) of y, (3, P), float64.

    C^-1/2 (C^1/2 S C^1/2)^1/2 C^-1/2 (x - m) + m': Pitié, Kokaram, "The linear Monge-Kantorovitch linear colour mapping
    for example-based colour transfer", CVMP 2007. Standard deviations of x below `LEVEL` count as `LEVEL`.
    """
    c, s = _root(torch.cov(x, correction=0), LEVEL**2), _root(torch.cov(y, correction=0))
    transform = torch.linalg.inv(c) @ _root(c @ s @ s @ c) @ torch.linalg.inv(c)
    shift = y.mean(1, keepdim=True) - transform @ x.mean(1, keepdim=True)
    return lambda colours: torch.addmm(shift.to(colours), transform.to(colours), colours)


def _distribution_transfer(x: Tensor, y: Tensor) -> ColourMap:
    """Return the map of iterative distribution transfer from colours x to y, (3, P) and (3, Q), float64.

    Matches the marginals along the axes of one rotation after another: Pitié, Kokaram, Dahyot, "Automated colour
    grading using colour distribution transfer", CVIU 107, 2007; here with fixed rotations and no grain reducer.
    """
    generator, steps = torch.Generator().manual_seed(0), []
    for i in range(ROTATIONS):
        turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=x.dtype))[0] if i else torch.eye(3).to(x)
        steps.append((turn, [_transport(a, b) for a, b in zip(turn @ x, turn @ y, strict=True)]))
        x = _transfer_step(x, steps[-1])
    return lambda colours: reduce(_transfer_step, steps, colours)


def _transfer_step(x: Tensor, step: tuple[Tensor, list[tuple[Tensor, Tensor]]]) -> Tensor:
    turn, curves = step[0].to(x), step[1]
    return turn.t() @ torch.stack([_interpolate(a, *curve) for a, curve in zip(turn @ x, curves, strict=True)])


def _transport(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the increasing curve that maps the distribution of x, (P,), to that of y, (Q,), as knots and values.

    Knots are one `LEVEL` apart. A value is the mean over the colours of one level, so that a plain area stays plain.
    """
    at = torch.linspace(0, 1, QUANTILES, dtype=x.dtype)
    x, y = torch.quantile(x, at), torch.quantile(y, at)
    place = (x - x[0]) / LEVEL + 0.5  # not 0: a lone colour would fall to one knot, and its noise to the next
    below, beyond = place.floor().long(), place % 1
    cells, share = torch.cat([below, below + 1]), torch.cat([1 - beyond, beyond])
    total, value = torch.bincount(cells, share), torch.bincount(cells, share * y.repeat(2))
    (used,) = total.nonzero(as_tuple=True)
    return x[0] + LEVEL * (used - 0.5), value[used] / total[used]


def _interpolate(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Interpolate linearly between the knots; constant beyond them."""
    knots, values = knots.to(x), values.to(x)
    right = torch.bucketize(x, knots).clamp(max=len(knots) - 1)
    left = (right - 1).clamp(min=0)
    share = (x - knots[left]) / (knots[right] - knots[left]).clamp(min=LEVEL / 2)
    return torch.lerp(values[left], values[right], share.clamp(0, 1))


def recolour(photo: Tensor, style: Tensor) -> Tensor:
    """Map the photo linearly to the style's mean and covariance, clamped; both (1, 3, H, W), float32, sRGB, [0, 1].

    Reinhard et al., "Color Transfer between Images", 2001, in RGB with full covariances: S^(1/2) C^(-1/2) (x - mean).
    The metrics use this as their baseline; `match_palette` moves colours less.
    """
    c, s = photo[0].flatten(1).double(), style[0].flatten(1).double()
    ridge = 1e-5 * torch.eye(3, dtype=torch.float64, device=c.device)
    transform = _root(torch.cov(s) + ridge) @ torch.linalg.inv(_root(torch.cov(c) + ridge))
    y = transform @ (c - c.mean(1, keepdim=True)) + s.mean(1, keepdim=True)
    return y.clamp(0, 1).float().view_as(photo)


def fit_colours(picture: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    """Map a picture's colours linearly, so that it comes near another one by weighted least squares; clamped.

    Where the two have little in common, the colours stay as they are.

    Parameters
    ----------
    picture, other : Tensor
        (1, 3, H, W), float32, sRGB, [0, 1].
    weight : Tensor
        (1, 1, H, W): how much each pixel counts.
    """
    x, y, w = (t[0].flatten(1).double() for t in (picture, other, weight))
    x = torch.cat([x, torch.ones_like(x[:1])])
    ridge = FIT_RIDGE * x.shape[1] * torch.eye(4, dtype=torch.float64)
    fitted = ((w * y) @ x.t() + ridge[:3]) @ torch.linalg.inv((w * x) @ x.t() + ridge)
    return (fitted @ x).clamp(0, 1).float().view_as(picture)


def _root(matrix: Tensor, least: float = 0.0) -> Tensor:
    """Return the symmetric square root of a symmetric matrix, its eigenvalues clamped to at least `least`."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=least).sqrt() @ vectors.t()


def _check(*pictures: Tensor) -> None:
    for x in pictures:
        if x.ndim != 4 or x.shape[1] != 3 or x.numel() == 0 or x.dtype != torch.float32:
            given = f"{tuple(x.shape)}, {str(x.dtype).removeprefix('torch.')}"
            raise OptionError(f"a picture must be (N, 3, H, W), float32, not {given}; convert it first")


def _check_transfer(picture: Tensor, other: Tensor, choice: str, known: tuple[str, ...], strength: float) -> None:
    _check(picture, other)
    if len(other) not in (1, len(picture)):
        raise OptionError(f"got {len(other)} pictures as references for {len(picture)}; give one, or one for each")
    if choice not in known:
        raise OptionError(f"unknown colour method {choice!r}; choose {' or '.join(known)}")
    if not 0 <= strength <= 1:
        raise OptionError(f"the strength is {strength:g}; it must be from 0 to 1")
