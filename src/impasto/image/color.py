"""Colour spaces, and colours carried from one picture to another.

A painting can keep the colours of its photo, place by place (`keep_colours`), and a picture can take the palette of
another (`match_palette`): the two ways of Gatys, Bethge, Hertzmann, Shechtman, "Preserving Color in Neural Artistic
Style Transfer", arXiv:1606.05897, 2016. OKLab is from B. Ottosson, "A perceptual color space for image processing",
2020: lightness L in [0, 1]; a and b, whose distance from grey is the chroma, for sRGB up to 0.33. YCbCr is that of
ITU-R BT.601 at full range, as in JPEG, but Cb and Cr are centred on 0, in [-0.5, 0.5].
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
"""Of lightness or luma, that `keep_colours` gives up for chroma; without it about twice the chroma is lost."""
TOLERANCE, HALVINGS = 1e-5, 12
"""Of the way into the gamut: what rounding may do, and how often it is halved."""
LEVEL = 1 / 255
"""Differences of colour below one level of 8 bits count as noise, which a palette's match must not blow up."""
MOST_PIXELS, STRIP = 2**18, 2**18
"""A picture's pixels that a palette is taken from, and those that are worked on at once."""
QUANTILES, ROTATIONS = 1024, 10
"""Of the histogram's match: 5 rotations leave 3.5 % of photos' sliced distance, 10 leave 2.8 %, 20 leave 2.1 %."""


def to_linear(picture: Tensor) -> Tensor:
    """Light of a picture: (N, 3, H, W), float32, sRGB -> linear, both in [0, 1], by IEC 61966-2-1."""
    _check(picture)
    return torch.where(picture <= 0.04045, picture / 12.92, ((picture.clamp(min=0) + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: Tensor) -> Tensor:
    """A picture from light: (N, 3, H, W), float32, linear -> sRGB, clamped to [0, 1], by IEC 61966-2-1."""
    _check(linear)
    x = linear.clamp(0, 1)
    return torch.where(x <= 0.0031308, x * 12.92, 1.055 * x.clamp(min=0.0031308) ** (1 / 2.4) - 0.055).clamp(max=1)


def srgb_to_oklab(picture: Tensor) -> Tensor:
    """A picture, (N, 3, H, W), float32, sRGB, [0, 1], in OKLab: channels L, a, b. No gradient at black."""
    return _mix(ROOTS_TO_OKLAB, _mix(LINEAR_TO_LMS, to_linear(picture)).clamp(min=0) ** (1 / 3))


def oklab_to_srgb(lab: Tensor) -> Tensor:
    """A picture, (N, 3, H, W), float32, sRGB, [0, 1], from OKLab.

    A colour that sRGB lacks loses chroma, with lightness and hue held; lightness outside [0, 1] is black or white.
    """
    _check(lab)
    return to_srgb(_oklab_to_linear(_into_gamut(lab, _oklab_to_linear)))


def srgb_to_ycbcr(picture: Tensor) -> Tensor:
    """A picture, (N, 3, H, W), float32, sRGB, [0, 1], in YCbCr: Y in [0, 1], Cb and Cr in [-0.5, 0.5]."""
    _check(picture)
    return _mix(RGB_TO_YCBCR, picture)


def ycbcr_to_srgb(ycbcr: Tensor) -> Tensor:
    """A picture, (N, 3, H, W), float32, sRGB, from YCbCr; red, green and blue are clamped to [0, 1]."""
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
    """Colours (N, 3, H, W) of a space like OKLab, brought to where red, green and blue are in [0, 1].

    Those outside first move towards `lightness` (N, H, W), at which such chroma exists, no further than they need and
    by `MOST_SHIFT` at most. Then they lose chroma.
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
    """The first points inside the gamut on the ways from start to end, all (P, 3); the end where there is none."""
    low, high = torch.zeros_like(start[:, :1]), torch.ones_like(start[:, :1])
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        inside = _inside(to_rgb(torch.lerp(start, end, middle)))[:, None]
        low, high = torch.where(inside, low, middle), torch.where(inside, middle, high)
    return torch.where(_inside(to_rgb(start))[:, None], start, torch.lerp(start, end, high))


def _inside(rgb: Tensor) -> Tensor:
    return ((rgb >= -TOLERANCE) & (rgb <= 1 + TOLERANCE)).all(1)


_SPACES: dict[str, tuple[ColourMap, ColourMap, ColourMap]] = {  # into it; to where the gamut is a cube; to a picture
    "oklab": (srgb_to_oklab, _oklab_to_linear, to_srgb),
    "ycbcr": (srgb_to_ycbcr, _ycbcr_to_rgb, lambda rgb: rgb.clamp(0, 1)),
}


@torch.no_grad()
def keep_colours(painting: Tensor, photo: Tensor, space: Space = "oklab", strength: float = 1.0) -> Tensor:
    """A painting with its own light and shade, in the colours of its photo (Gatys et al. 2016, luminance-only).

    Where sRGB lacks the colour, lightness moves towards the photo's, by 0.05 at most, and then the chroma gives way.

    Parameters
    ----------
    painting : Tensor
        (N, 3, H, W), float32, sRGB, [0, 1]: gives L or Y.
    photo : Tensor
        (1 or N, 3, H', W'), float32, sRGB, [0, 1]: gives a and b, or Cb and Cr; resized to the painting.
    space : {"oklab", "ycbcr"}
        OKLab holds perceived lightness better, YCbCr is the field's habit.
    strength : float
        0 is the painting itself, 1 the photo's chroma; between them the chroma is interpolated in that space.

    Raises
    ------
    OptionError
        If a picture has another form, the space is unknown or the strength not in [0, 1].
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
    """A picture in the palette of another, by a map of sRGB colours that is the same everywhere in the picture.

    Parameters
    ----------
    picture, reference : Tensor
        (N, 3, H, W) and (1 or N, 3, H', W'), float32, sRGB, [0, 1]. Of larger ones 2^18 pixels are measured. Both may
        have an alpha channel, the fourth; what is more transparent than not is not measured.
    method : {"covariance", "histogram"}
        The linear match of mean and covariance, or that of the whole distribution, which can bring out noise.
    strength : float
        0 is the picture itself, 1 the full match; between them the two are mixed.

    Raises
    ------
    OptionError
        If a picture has another form, the method is unknown or the strength not in [0, 1].
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
    """Visible pixels of (3 or 4, H, W), or as many as allowed, the same in every run: (3, P), float64, on the CPU."""
    x = picture.flatten(1)
    if len(x) == 4:
        x = x[:3, x[3] >= min(0.5, float(x[3].max()))]
    if x.shape[1] > MOST_PIXELS:
        x = x[:, torch.randint(x.shape[1], (MOST_PIXELS,), generator=torch.Generator().manual_seed(0)).to(x.device)]
    return x.cpu().double()


def _monge_kantorovich(x: Tensor, y: Tensor) -> ColourMap:
    """The linear map of least movement from mean and covariance (m, C) of x to (m', S) of y, both (3, P), float64.

    C^-1/2 (C^1/2 S C^1/2)^1/2 C^-1/2 (x - m) + m': Pitié, Kokaram, "The linear Monge-Kantorovitch linear colour mapping
    for example-based colour transfer", CVMP 2007. Where x deviates by less than a `LEVEL`, it counts as one.
    """
    c, s = _root(torch.cov(x, correction=0), LEVEL**2), _root(torch.cov(y, correction=0))
    transform = torch.linalg.inv(c) @ _root(c @ s @ s @ c) @ torch.linalg.inv(c)
    shift = y.mean(1, keepdim=True) - transform @ x.mean(1, keepdim=True)
    return lambda colours: torch.addmm(shift.to(colours), transform.to(colours), colours)


def _distribution_transfer(x: Tensor, y: Tensor) -> ColourMap:
    """The map of iterative distribution transfer from colours x to y, (3, P) and (3, Q), float64.

    The marginals along the axes of one rotation after another are matched: Pitié, Kokaram, Dahyot, "Automated colour
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
    """The growing curve that takes the distribution of x, (P,), to that of y, (Q,), as knots and values.

    Knots are a `LEVEL` apart; a value is the mean over the colours within one, so that a plain area stays plain.
    """
    at = torch.linspace(0, 1, QUANTILES, dtype=x.dtype)
    x, y = torch.quantile(x, at), torch.quantile(y, at)
    place = (x - x[0]) / LEVEL + 0.5  # not 0, where a lone colour would be one knot's and its noise the other's
    below, beyond = place.floor().long(), place % 1
    cells, share = torch.cat([below, below + 1]), torch.cat([1 - beyond, beyond])
    total, value = torch.bincount(cells, share), torch.bincount(cells, share * y.repeat(2))
    (used,) = total.nonzero(as_tuple=True)
    return x[0] + LEVEL * (used - 0.5), value[used] / total[used]


def _interpolate(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Piecewise linear between the knots, constant beyond them."""
    knots, values = knots.to(x), values.to(x)
    right = torch.bucketize(x, knots).clamp(max=len(knots) - 1)
    left = (right - 1).clamp(min=0)
    share = (x - knots[left]) / (knots[right] - knots[left]).clamp(min=LEVEL / 2)
    return torch.lerp(values[left], values[right], share.clamp(0, 1))


def recolour(photo: Tensor, style: Tensor) -> Tensor:
    """The photo mapped linearly to the style's mean and covariance, clamped, both (1, 3, H, W), float32, sRGB, [0, 1].

    Reinhard et al., "Color Transfer between Images", 2001, in RGB with full covariances: S^(1/2) C^(-1/2) (x - mean).
    The metrics' yardstick; `match_palette` moves colours less.
    """
    c, s = photo[0].flatten(1).double(), style[0].flatten(1).double()
    ridge = 1e-5 * torch.eye(3, dtype=torch.float64, device=c.device)
    transform = _root(torch.cov(s) + ridge) @ torch.linalg.inv(_root(torch.cov(c) + ridge))
    y = transform @ (c - c.mean(1, keepdim=True)) + s.mean(1, keepdim=True)
    return y.clamp(0, 1).float().view_as(photo)


def _root(matrix: Tensor, least: float = 0.0) -> Tensor:
    """Symmetric square root of a symmetric matrix, whose eigenvalues count as `least` where they are less."""
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp(min=least).sqrt() @ vectors.t()


def _check(*pictures: Tensor) -> None:
    for x in pictures:
        if x.ndim != 4 or x.shape[1] != 3 or x.numel() == 0 or x.dtype != torch.float32:
            given = f"{tuple(x.shape)}, {str(x.dtype).removeprefix('torch.')}"
            raise OptionError(f"a picture is (N, 3, H, W), float32, but {given} was given; convert it first")


def _check_transfer(picture: Tensor, other: Tensor, choice: str, known: tuple[str, ...], strength: float) -> None:
    _check(picture, other)
    if len(other) not in (1, len(picture)):
        raise OptionError(f"{len(other)} pictures give colours to {len(picture)}; give one, or one for each")
    if choice not in known:
        raise OptionError(f"colours cannot be carried by {choice!r}; choose {' or '.join(known)}")
    if not 0 <= strength <= 1:
        raise OptionError(f"the strength is {strength:g}; it must be from 0 to 1")
