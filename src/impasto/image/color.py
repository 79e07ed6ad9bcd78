"""Colour spaces, and colours carried from one picture to another.

Two questions are answered here. A painting shall keep the colours of its photo: `keep_colours`. A picture shall take
the palette of another, wherever in the picture a colour stands: `match_palette`. Both are the two ways of Gatys,
Bethge, Hertzmann, Shechtman, "Preserving Color in Neural Artistic Style Transfer", arXiv:1606.05897, 2016: the first
is their luminance-only transfer after the fact, the second is for the style picture, before the painting begins.

OKLab is B. Ottosson's, "A perceptual color space for image processing", 2020: lightness L in [0, 1], and a and b whose
distance from grey is the chroma, for sRGB up to 0.33. YCbCr is that of ITU-R BT.601 at full range, as in JPEG, but with
Cb and Cr centred on 0, in [-0.5, 0.5]. Pictures are (N, 3, H, W), float32, sRGB, [0, 1] throughout.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ..errors import OptionError
from .resize import resize

Matrix = tuple[tuple[float, float, float], ...]
Columns = Callable[[Tensor], Tensor]
Space = Literal["oklab", "ycbcr"]
PaletteMethod = Literal["covariance", "histogram"]

LINEAR_TO_LMS: Matrix = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
ROOTS_TO_OKLAB: Matrix = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)
OKLAB_TO_ROOTS: Matrix = (
    (1.0, 0.3963377774, 0.2158037573),
    (1.0, -0.1055613458, -0.0638541728),
    (1.0, -0.0894841775, -1.2914855480),
)
LMS_TO_LINEAR: Matrix = (
    (4.0767416621, -3.3077115913, 0.2309699292),
    (-1.2684380046, 2.6097574011, -0.3413193965),
    (-0.0041960863, -0.7034186147, 1.7076147010),
)
"""Ottosson's matrices, as published."""
RED, BLUE = 0.299, 0.114
GREEN = 1 - RED - BLUE
"""Shares of the luma of BT.601."""

MOST_SHIFT = 0.05
"""Of lightness or luma, that `keep_colours` may give up for chroma. At 0 photographs lose 1.4 times the chroma and more."""
GAMUT_TOLERANCE, BISECTIONS = 1e-5, 12
"""What rounding may put a colour outside by; halvings of the way into the gamut: 1/4096 of it is left."""
LEVEL = 1 / 255
"""Differences of colour below one level of 8 bits are noise, which a palette's match must not blow up."""
MOST_PIXELS, STRIP = 2**18, 2**18
"""A picture's pixels that its statistics are taken from, and those that are worked on at once."""
QUANTILES, ROTATIONS = 1024, 10
"""Of the histogram's match. From 5 rotations to 10 the sliced distance left falls by a third, from 10 to 20 by little."""


def to_linear(picture: Tensor) -> Tensor:
    """Light of a picture, (N, 3, H, W), float32, linear in [0, 1]; the curve of IEC 61966-2-1, undone."""
    _check(picture)
    return torch.where(picture <= 0.04045, picture / 12.92, ((picture.clamp(min=0) + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: Tensor) -> Tensor:
    """A picture from linear light, (N, 3, H, W), float32, clamped to [0, 1]; the curve of IEC 61966-2-1."""
    _check(linear)
    x = linear.clamp(0, 1)
    return torch.where(x <= 0.0031308, x * 12.92, 1.055 * x.clamp(min=0.0031308) ** (1 / 2.4) - 0.055).clamp(0, 1)


def srgb_to_oklab(picture: Tensor) -> Tensor:
    """A picture in OKLab: (N, 3, H, W), float32, channels L in [0, 1], a and b. No gradient at black."""
    return _mix(ROOTS_TO_OKLAB, _mix(LINEAR_TO_LMS, to_linear(picture)).clamp(min=0) ** (1 / 3))


def oklab_to_srgb(lab: Tensor, gamut: Literal["chroma", "clip"] = "chroma") -> Tensor:
    """A picture from OKLab.

    Parameters
    ----------
    lab : Tensor
        (N, 3, H, W), float32: L, a, b.
    gamut : {"chroma", "clip"}
        What becomes of a colour that sRGB does not have. "chroma" takes it towards grey until sRGB has it, with
        lightness and hue held (a lightness below 0 or above 1 becomes black or white); "clip" clamps red, green and
        blue, which is faster and changes all three.

    Returns
    -------
    Tensor
        (N, 3, H, W), float32, sRGB, [0, 1].
    """
    _check(lab)
    _check_choice("gamut", gamut, ("chroma", "clip"))
    return to_srgb(_oklab_to_linear(into_gamut(lab, _oklab_to_linear) if gamut == "chroma" else lab))


def _oklab_to_linear(lab: Tensor) -> Tensor:
    return _mix(LMS_TO_LINEAR, _mix(OKLAB_TO_ROOTS, lab) ** 3)


def srgb_to_ycbcr(picture: Tensor) -> Tensor:
    """A picture in YCbCr: (N, 3, H, W), float32, Y in [0, 1], Cb and Cr in [-0.5, 0.5]."""
    _check(picture)
    red, green, blue = picture.unbind(1)
    y = RED * red + GREEN * green + BLUE * blue
    return torch.stack([y, (blue - y) / (2 - 2 * BLUE), (red - y) / (2 - 2 * RED)], 1)


def ycbcr_to_srgb(ycbcr: Tensor) -> Tensor:
    """A picture from YCbCr, (N, 3, H, W), float32, clamped to [0, 1]."""
    _check(ycbcr)
    return _ycbcr_to_rgb(ycbcr).clamp(0, 1)


def _ycbcr_to_rgb(ycbcr: Tensor) -> Tensor:
    y, cb, cr = ycbcr.unbind(1)
    red, blue = y + (2 - 2 * RED) * cr, y + (2 - 2 * BLUE) * cb
    return torch.stack([red, (y - RED * red - BLUE * blue) / GREEN, blue], 1)


def into_gamut(colours: Tensor, to_rgb: Columns, lightness: Tensor | None = None) -> Tensor:
    """Bring colours of a space with a lightness and two coordinates of chroma to where red, green and blue are in [0, 1].

    With `lightness`, a colour outside first moves towards it, chroma held, by `MOST_SHIFT` at most and no further than
    to the gamut's border; what that does not bring inside, and everything without it, loses chroma. A colour that
    shares its chroma with one of the gamut at that lightness thereby keeps more of it.

    Parameters
    ----------
    colours : Tensor
        (N, 3, H, W): lightness, clamped to [0, 1], then chroma.
    to_rgb : callable
        From that space to red, green and blue, (N, 3, ...) -> (N, 3, ...), grey from (lightness, 0, 0).
    lightness : Tensor, optional
        (N, H, W), of colours of about this chroma that are in the gamut.
    """
    colours = torch.cat([colours[:, :1].clamp(0, 1), colours[:, 1:]], 1)
    outside = ~_inside(to_rgb(colours))  # (N, H, W)
    points = colours.movedim(1, -1)
    wanted = points[outside]  # (P, 3)
    if lightness is not None:
        shift = (lightness[outside] - wanted[:, 0]).clamp(-MOST_SHIFT, MOST_SHIFT)
        wanted = _towards(wanted, wanted + shift[:, None] * wanted.new_tensor((1, 0, 0)), to_rgb)
    points[outside] = _towards(wanted, wanted * wanted.new_tensor((1, 0, 0)), to_rgb)
    return colours


def _towards(start: Tensor, end: Tensor, to_rgb: Columns) -> Tensor:
    """The first of the gamut's points on the way from start to end, both (P, 3); the end where there is none."""
    low, high = torch.zeros_like(start[:, :1]), torch.ones_like(start[:, :1])
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        inside = _inside(to_rgb(torch.lerp(start, end, middle)))[:, None]
        low, high = torch.where(inside, low, middle), torch.where(inside, middle, high)
    return torch.where(_inside(to_rgb(start))[:, None], start, torch.lerp(start, end, high))


def _inside(rgb: Tensor) -> Tensor:
    return ((rgb >= -GAMUT_TOLERANCE) & (rgb <= 1 + GAMUT_TOLERANCE)).all(1)


class _Space(NamedTuple):
    of: Columns
    to_rgb: Columns
    back: Columns


_SPACES = {
    "oklab": _Space(srgb_to_oklab, _oklab_to_linear, lambda lab: oklab_to_srgb(lab, "clip")),
    "ycbcr": _Space(srgb_to_ycbcr, _ycbcr_to_rgb, ycbcr_to_srgb),
}


@torch.no_grad()
def keep_colours(painting: Tensor, photo: Tensor, space: Space = "oklab", strength: float = 1.0) -> Tensor:
    """A painting with its own light and shade, in the colours of its photo (Gatys et al. 2016, section 4.2).

    Departs from the paper in the space, and where sRGB has no such colour: there the lightness moves towards the
    photo's, by 0.05 at most, and then the chroma gives way (`into_gamut`).

    Parameters
    ----------
    painting : Tensor
        (N, 3, H, W), float32, sRGB, [0, 1]: where L or Y is from.
    photo : Tensor
        (1 or N, 3, H', W'), float32, sRGB, [0, 1]: where a and b, or Cb and Cr, are from; resized if need be.
    space : {"oklab", "ycbcr"}
        OKLab keeps hues and perceived lightness; YCbCr is that of the field's code.
    strength : float
        From 0, the painting as it is, to 1; the chroma between the two, in that space.

    Returns
    -------
    Tensor
        (N, 3, H, W), float32, sRGB, [0, 1]; `painting` itself at strength 0.

    Raises
    ------
    OptionError
        If a picture is not of that form, or the space is unknown, or the strength outside [0, 1].
    """
    _check_pair(painting, photo, strength)
    _check_choice("colour space", space, get_args(Space))
    if strength == 0:
        return painting
    height, width = painting.shape[-2:]
    photo = resize(photo, (height, width)).expand_as(painting)
    of, to_rgb, back = _SPACES[space]
    strips = []
    for light, chroma in zip(*(p.split(max(1, STRIP // width), dim=2) for p in (painting, photo)), strict=True):
        x, c = of(light), of(chroma)
        mixed = torch.cat([x[:, :1], torch.lerp(x[:, 1:], c[:, 1:], strength)], 1)
        strips.append(back(into_gamut(mixed, to_rgb, lightness=c[:, 0])))
    return torch.cat(strips, 2)


@torch.no_grad()
def match_palette(
    picture: Tensor, reference: Tensor, method: PaletteMethod = "covariance", strength: float = 1.0
) -> Tensor:
    """A picture recoloured to the palette of another one, by a map of colours that does not look at places.

    The maps act on sRGB values. In OKLab they came no nearer to the reference on photographs, linear light came less
    near, and both cost more. A picture that is nearly without colour has little to map: `LEVEL` bounds what is made of
    its noise in the linear map, while "histogram" can make much of it.

    Parameters
    ----------
    picture : Tensor
        (N, 3, H, W), float32, sRGB, [0, 1].
    reference : Tensor
        (1 or N, 3, H', W'), float32, sRGB, [0, 1]: whose colours are wanted.
    method : {"covariance", "histogram"}
        "covariance" matches mean and covariance by `monge_kantorovich`; "histogram" the whole distribution, by
        `distribution_transfer`. Both measure 2^18 pixels of a picture at most, the same in every run.
    strength : float
        From 0, the picture as it is, to 1; between the two the result is mixed with the picture.

    Returns
    -------
    Tensor
        (N, 3, H, W), float32, sRGB, clamped to [0, 1]; `picture` itself at strength 0.

    Raises
    ------
    OptionError
        If a picture is not of that form, or the method is unknown, or the strength outside [0, 1].
    """
    _check_pair(picture, reference, strength)
    _check_choice("palette method", method, get_args(PaletteMethod))
    if strength == 0:
        return picture
    fit = {"covariance": monge_kantorovich, "histogram": distribution_transfer}[method]
    matched = []
    for x, wanted in zip(picture, reference.expand(len(picture), -1, -1, -1), strict=True):
        recoloured = fit(_sample(x), _sample(wanted))
        strips = [torch.lerp(s, recoloured(s).clamp(0, 1), strength) for s in x.flatten(1).split(STRIP, dim=1)]
        matched.append(torch.cat(strips, 1).view_as(x))
    return torch.stack(matched)


def _sample(picture: Tensor) -> Tensor:
    """(3, P), float64, on the CPU, of (3, H, W): its pixels, or as many as are allowed, drawn by a fixed seed."""
    pixels = picture.flatten(1)
    if pixels.shape[1] > MOST_PIXELS:
        drawn = torch.randint(pixels.shape[1], (MOST_PIXELS,), generator=torch.Generator().manual_seed(0))
        pixels = pixels[:, drawn.to(pixels.device)]
    return pixels.cpu().double()


def monge_kantorovich(x: Tensor, y: Tensor) -> Columns:
    """The linear map between two palettes that moves colours least: C^-1/2 (C^1/2 S C^1/2)^1/2 C^-1/2 (x - mean) + mean'.

    Pitié, Kokaram, "The linear Monge-Kantorovitch linear colour mapping for example-based colour transfer", CVMP 2007,
    equation 14. A direction along which colours deviate by less than a level counts as deviating by one.

    Parameters
    ----------
    x, y : Tensor
        (3, P) and (3, Q), float64: colours with covariance C, and wanted ones with covariance S.

    Returns
    -------
    callable
        (3, R) -> (3, R), not clamped. Of `x` itself mean and covariance are those of `y`.
    """
    root, wanted = (_root(torch.cov(colours, correction=0), LEVEL**2) for colours in (x, y))
    inverse = torch.linalg.inv(root)
    transform = inverse @ _root(root @ wanted @ wanted @ root) @ inverse
    shift = y.mean(1) - transform @ x.mean(1)
    return lambda c: torch.addmm(shift.to(c)[:, None], transform.to(c), c)


def distribution_transfer(x: Tensor, y: Tensor) -> Columns:
    """The map of iterative distribution transfer: the marginals are matched along the axes of one rotation after another.

    Pitié, Kokaram, Dahyot, "Automated colour grading using colour distribution transfer", CVIU 107, 2007, section 3;
    with fixed random rotations, the first none, and without the grain reducer of section 4.

    Parameters
    ----------
    x, y : Tensor
        (3, P) and (3, Q), float64: colours, and those whose distribution is wanted.

    Returns
    -------
    callable
        (3, R) -> (3, R), not clamped.
    """
    generator = torch.Generator().manual_seed(0)
    turns = [torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0] for _ in range(ROTATIONS)]
    turns[0] = torch.eye(3, dtype=torch.float64)
    steps = []
    for turn in turns:
        step = turn, [_transport(a, b) for a, b in zip(turn @ x, turn @ y, strict=True)]
        x = _turned(x, *step)
        steps.append(step)

    def transfer(colours: Tensor) -> Tensor:
        for step in steps:
            colours = _turned(colours, *step)
        return colours

    return transfer


def _turned(colours: Tensor, turn: Tensor, curves: list[tuple[Tensor, Tensor]]) -> Tensor:
    turn = turn.to(colours)
    along = [_interpolate(a, *(t.to(a) for t in curve)) for a, curve in zip(turn @ colours, curves, strict=True)]
    return turn.t() @ torch.stack(along)


def _transport(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The growing curve that takes the distribution of x to that of y, as knots and values.

    Knots are a level apart, and a value is the mean over the colours within a level, the nearer the more: so a plain
    area, which lies at one point of x, gets one colour, the mean of what it may become, whatever its rounding noise.
    """
    at = torch.linspace(0, 1, QUANTILES, dtype=x.dtype)
    x, y = torch.quantile(x, at), torch.quantile(y, at)
    place = (x - x[0]) / LEVEL
    below = place.floor()
    cells = torch.cat([below, below + 1]).long()
    weight = torch.cat([1 - (place - below), place - below])
    total, value = weight.bincount, None
    raise NotImplementedError
