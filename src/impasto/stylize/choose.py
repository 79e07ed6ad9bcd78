"""From what the user gives to what paints: a style's source, the encoder, the stylizer."""

import logging
import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from ..device import Compute, choose_compute
from ..errors import OptionError, StyleError
from ..image.convert import to_picture
from ..models.weights import find_model, load_encoder
from ..options import STARTS, OptimizeOptions, TextureOptions
from ..style.builtin import builtin_names, load_builtin
from ..style.target import StyleTarget
from .colours import ColourKeeper
from .gatys import GatysStylizer
from .optimize import OptimizeStylizer
from .protocol import Region, Stylizer
from .texture import TextureSynthesizer

log = logging.getLogger(__name__)

Options = TypeVar("Options", bound=OptimizeOptions)
StyleSource = Any
"""A built-in style's name, a picture's or style file's path, a StyleTarget, or a picture (PIL image, array, tensor)."""

STYLE_FILE_SUFFIX = ".safetensors"


def resolve_style(source: StyleSource, max_megapixels: float = 200.0) -> Tensor | StyleTarget:
    """What a style's source stands for: a painting (1, 3, H, W) or its measurements.

    Text is a path if there is such a file, else the name of a built-in style.

    Raises
    ------
    StyleError
        If there is neither such a file nor such a style.
    PictureError, WeightsError
        If the file cannot be read.
    """
    if isinstance(source, StyleTarget):
        return source
    if isinstance(source, str | Path) and str(source) != "-":
        path = Path(source)
        if str(source) in builtin_names() and not os.path.isfile(path):
            return load_builtin(str(source))
        if not os.path.exists(path):  # unlike Path.exists, which fails for a name that is too long
            near = get_close_matches(str(source), builtin_names(), 3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`impasto styles` lists the built-in ones"
            raise StyleError(f"style {str(source)!r} is neither a file nor a built-in style; {hint}")
        if path.suffix.lower() == STYLE_FILE_SUFFIX:
            return StyleTarget.load(path)
    return to_picture(source, max_megapixels=max_megapixels).tensor


def split_region(text: str) -> tuple[str, str]:
    """Mask and style of a region written as MASK=STYLE; OptionError if it is not.

    The first = divides them, but where names hold more of them, the first that leaves the name of a file before it.
    """
    places = [i for i, c in enumerate(text) if c == "=" and 0 < i < len(text) - 1]
    if not places:
        raise OptionError(f"--region {text} is not of the form MASK=STYLE, as in --region sky.png=starry-night")
    i = next((i for i in places if os.path.isfile(text[:i])), places[0])
    return text[:i], text[i + 1 :]


def resolve_region(mask: Any, style: StyleSource, max_megapixels: float = 200.0) -> Region:
    """A region of sources.

    Parameters
    ----------
    mask : path, PIL image, array, tensor or Picture
        White (1) where the region is, black (0) where not, grey between.
    style : as for `resolve_style`

    Raises
    ------
    ImpastoError
        As `resolve_style`; PictureError if the mask cannot be read.
    """
    return Region(resolve_mask(mask, max_megapixels), resolve_style(style, max_megapixels))


def resolve_mask(mask: Any, max_megapixels: float = 200.0) -> Tensor:
    """A mask (1, 1, H, W) in [0, 1] of that, or of any kind of picture, its brightness; PictureError if unreadable."""
    if isinstance(mask, Tensor) and mask.ndim == 4 and mask.shape[1] == 1:
        mask = mask.expand(-1, 3, -1, -1)  # where it is checked as any picture is
    return to_picture(mask, max_megapixels=max_megapixels).tensor.mean(1, keepdim=True)


def choose_encoder_name(options: OptimizeOptions) -> str:
    """`auto` resolved: compact, but for the preset gatys vgg19 where its file is there."""
    if options.encoder != "auto":
        return options.encoder
    if options.preset != "gatys":
        return "compact"
    if find_model("vgg19").present:
        return "vgg19"
    log.warning("the preset gatys runs on the compact encoder; `impasto models fetch vgg19` gets the original network")
    return "compact"


def compute_of(options: OptimizeOptions) -> Compute:
    """The device and precision that the options come to here; OptionError if they are not to be had."""
    # The recipe's numbers are float32; lower precision only when asked for by name.
    precision = "float32" if (options.preset, options.precision) == ("gatys", "auto") else options.precision
    return choose_compute(options.device, precision)


def choose_stylizer(
    styles: Sequence[Tensor | StyleTarget], options: OptimizeOptions, start: Tensor | None = None
) -> Stylizer:
    """The stylizer that the options ask for, with the styles bound.

    Raises
    ------
    ImpastoError
        If options, styles, encoder and machine do not fit together.
    """
    compute = compute_of(options)
    encoder = load_encoder(choose_encoder_name(options), pooling=options.pooling, offline=options.offline)
    stylizer: Stylizer
    if options.preset == "gatys":
        stylizer = GatysStylizer(styles, options, encoder, compute)
    else:
        if options.quality == "draft":
            log.info("no one-pass method is there yet: draft optimises with fewer steps")
        stylizer = OptimizeStylizer(styles, options, encoder, compute, start)
    if options.keep_colours:
        stylizer = ColourKeeper(stylizer, options.colour_space, options.keep_colours)
    return stylizer


def choose_texture(
    styles: Sequence[Tensor | StyleTarget],
    size: tuple[int, int],
    seamless: bool,
    options: TextureOptions,
    start: Tensor | None = None,
) -> TextureSynthesizer:
    """What makes a texture of that height and width, with the styles bound.

    Raises
    ------
    ImpastoError
        If options, styles, size, encoder and machine do not fit together.
    """
    compute = compute_of(options)
    encoder = load_encoder(choose_encoder_name(options), pooling=options.pooling, offline=options.offline)
    return TextureSynthesizer(styles, size, options, encoder, compute, start, seamless=seamless)


def load_stylizer(
    style: StyleSource | Sequence[StyleSource], options: OptimizeOptions | None = None, **changes: Any
) -> Stylizer:
    """A stylizer with its style bound, to paint many pictures with.

    Parameters
    ----------
    style : str, Path, StyleTarget, picture, or a list of them
        A built-in name, a picture or a style file; several blend by `style_weights`.
    options : OptimizeOptions, optional
        The defaults if not given.
    **changes
        Fields of OptimizeOptions that differ.

    Returns
    -------
    Stylizer
        Takes and gives (1, 3, H, W), float32, sRGB, [0, 1].

    Examples
    --------
    >>> stylizer = impasto.load_stylizer("starry-night", size=512)  # doctest: +SKIP
    >>> painting = stylizer(impasto.read_image("photo.jpg").tensor)  # doctest: +SKIP
    """
    options = with_changes(options or OptimizeOptions(), changes)
    return choose_stylizer(resolve_styles(style), options, resolve_start(options))


def load_texture(
    style: StyleSource | Sequence[StyleSource],
    size: tuple[int, int],
    seamless: bool = False,
    options: TextureOptions | None = None,
    **changes: Any,
) -> TextureSynthesizer:
    """What makes a texture, to be followed step by step.

    Parameters
    ----------
    style : str, Path, StyleTarget, picture, or a list of them
        A built-in name, a picture or a style file; several blend by `style_weights`.
    size : (int, int)
        Height and width in pixels.
    seamless : bool
        Whether the texture shall tile the plane.
    options : TextureOptions, optional
        The defaults if not given.
    **changes
        Fields of TextureOptions that differ.

    Raises
    ------
    ImpastoError
        If options, styles, size and machine do not fit together.

    Examples
    --------
    >>> for step in impasto.load_texture("starry-night", (512, 512), seamless=True).steps():  # doctest: +SKIP
    ...     print(step.iteration, step.losses["total"])
    """
    options = with_changes(options or TextureOptions(), changes)
    return choose_texture(resolve_styles(style), size, seamless, options, resolve_start(options))


def resolve_styles(style: StyleSource | Sequence[StyleSource]) -> list[Tensor | StyleTarget]:
    """What a style's source, or each of a list of them, stands for; errors as for `resolve_style`."""
    return [resolve_style(s) for s in (style if isinstance(style, list | tuple) else [style])]


def resolve_start(options: OptimizeOptions) -> Tensor | None:
    """The picture (1, 3, H, W) that `options.start` names, if it does; PictureError if it cannot be read."""
    return None if options.start in STARTS else to_picture(options.start).tensor


def with_changes(options: Options, changes: dict[str, Any]) -> Options:
    """The options with some fields changed; OptionError with the nearest names for an unknown one."""
    values = options.to_dict()
    for key in changes:
        if key not in values:
            near = get_close_matches(key, values, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"impasto.{type(options).__name__} lists them"
            raise OptionError(f"there is no option {key!r}; {hint}")
    return type(options).from_dict({**values, **changes})
