"""Choose what paints, from options and styles: the method, the encoder, the network, the stylizer."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Literal, TypeVar

from torch import Tensor
from typing_extensions import Unpack

from ..device import Compute, choose_compute, with_gradients
from ..errors import OptionError
from ..image.picture import opaque
from ..models.network import Network
from ..models.networks import find_network
from ..models.tuning import fastest
from ..models.vgg import VGG
from ..models.weights import find_model, load_encoder
from ..options import LearnOptions, OptimizeOptions, Options, StylizeOptions, TextureOptions
from ..options.changes import StylizeChanges, TextureChanges
from ..options.groups import names_of
from ..style.target import StyleTarget
from .colours import ColourKeeper
from .frames import FrameStylizer
from .gatys import GatysStylizer
from .memory import fit_memory
from .network import NetworkStylizer
from .network_memory import check_memory
from .optimize import OptimizeStylizer, Painter, fit_painting
from .protocol import Region, Stylizer
from .schedule import painting_size
from .sources import StyleSource, resolve_start, resolve_style, resolve_styles
from .texture import TextureSynthesizer

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Options)


def choose_encoder_name(options: OptimizeOptions | TextureOptions) -> str:
    """Return the encoder's name, with `auto` resolved: compact, or vgg19 for the preset gatys if its file is there."""
    if options.encoder != "auto":
        return options.encoder
    if not _is_recipe(options):
        return "compact"
    if find_model("vgg19").present:
        return "vgg19"
    return "compact"


def _is_recipe(options: OptimizeOptions | TextureOptions) -> bool:
    return isinstance(options, OptimizeOptions) and options.preset == "gatys"


def resolve_compute(options: OptimizeOptions | TextureOptions, net: Network | None = None) -> Compute:
    """Return the device and precision that a painting is made with.

    This is the only place that resolves them. Everything in a painting shares the result, and the stylizer keeps it as
    `compute` for the record.

    Parameters
    ----------
    net : Network, optional
        The network that paints. `--precision auto` then selects the precision in which it is fastest on this machine.

    Raises
    ------
    OptionError
        If the device does not exist.
    """
    if options.precision != "auto":
        return choose_compute(options.device, options.precision)
    if _is_recipe(options):  # the recipe's numbers are float32
        return choose_compute(options.device, "float32")
    compute = choose_compute(options.device)
    return compute if net is None else fastest(net, compute)


def choose_method(options: OptimizeOptions) -> Literal["optimize", "network"]:
    """Return the method that the options ask for.

    Raises
    ------
    OptionError
        If an option belongs to another method than the quality selects.
    """
    if not isinstance(options, StylizeOptions) or options.method == "optimize":
        return "optimize"
    if options.method == "network" or options.model is not None:
        return "network"
    if options.quality == "instant":
        others = options.only_of_optimize
        if others:
            raise OptionError(f"--{others[0]} is for the optimisation, and --quality instant has none; give draft")
        return "network"
    return "optimize"


def choose_stylizer(
    styles: Sequence[Tensor | StyleTarget], options: OptimizeOptions, start: Tensor | None = None
) -> Stylizer:
    """Return the stylizer that the options ask for, with the styles bound.

    Raises
    ------
    ImpastoError
        If options, styles, encoder and machine do not fit together.
    """
    stylizer: Stylizer
    if choose_method(options) == "network":
        assert isinstance(options, StylizeOptions)
        stylizer = network_stylizer(styles, options)
    else:
        compute = resolve_compute(options)
        name = choose_encoder_name(options)
        if options.preset == "gatys" and (options.encoder, name) == ("auto", "compact"):
            log.warning(
                "the preset gatys runs on the compact encoder; `impasto models fetch vgg19` gets the original network"
            )
        encoder = load_encoder(name, pooling=options.pooling, offline=options.offline)
        if options.preset == "gatys":
            stylizer = GatysStylizer(styles, options, encoder, compute)
        else:
            begin = start_painter(styles, options, compute, encoder) if options.begins_with == "network" else start
            stylizer = OptimizeStylizer(styles, options, encoder, compute, begin)
    if options.keep_colours:
        stylizer = ColourKeeper(stylizer, options.colour_space, options.keep_colours)
    return stylizer


def frame_stylizer(
    styles: Sequence[Tensor | StyleTarget], options: OptimizeOptions, size: tuple[int, int]
) -> FrameStylizer:
    """Return the stylizer that optimises pictures of height and width `size` in turn, with the styles bound.

    Raises
    ------
    ImpastoError
        If options, styles, size, encoder and machine do not fit together.
    """
    encoder = load_encoder(choose_encoder_name(options), pooling=options.pooling, offline=options.offline)
    return FrameStylizer(styles, options, encoder, resolve_compute(options), size)


def planned_size(photo: tuple[int, int], options: OptimizeOptions) -> tuple[int, int]:
    """Return the height and width at which a photograph is painted, before it is decoded.

    Parameters
    ----------
    photo : (int, int)
        Height and width of the photograph in pixels.

    Raises
    ------
    MemoryNeedError
        If the painting would not fit into memory and must not be painted smaller.
    """
    size = painting_size(photo, options)
    if choose_method(options) == "network":
        net = find_network(options.model if isinstance(options, StylizeOptions) else None)
        compute = resolve_compute(options, net)
        check_memory(size, net, compute, options.max_memory)
    else:
        encoder = load_encoder(choose_encoder_name(options), pooling=options.pooling, offline=options.offline)
        compute = resolve_compute(options)
        if options.preset == "gatys":
            fit_memory(size, encoder, compute, True, False, _ignore, options.max_memory)
        else:
            fit_painting(size, options, encoder, compute, said=_ignore)
    return size


def _ignore(message: str) -> None:
    """Drop a message: the stylizer logs it when it starts."""


def network_stylizer(
    styles: Sequence[Tensor | StyleTarget],
    options: StylizeOptions,
    compute: Compute | None = None,
    encoder: VGG | None = None,
) -> NetworkStylizer:
    """Return a one-pass stylizer with the network that the options name, or with the bundled one.

    Parameters
    ----------
    compute : Compute, optional
        Device and precision, if the network is part of another painting. Resolved from the options by default.
    encoder : VGG, optional
        The bundled encoder, if it is already loaded.
    """
    net = find_network(options.model)
    compute = compute or resolve_compute(options, net)
    encoder = encoder or load_encoder("compact")
    return NetworkStylizer(net, styles, options, encoder, compute)


@dataclass(frozen=True)
class NetworkStart:
    """The network's painting as the start of an optimisation.

    Parameters
    ----------
    network : NetworkStylizer
        The network, with the styles bound.
    needed : bool
        Whether the options name this start, so that a region's style that the network cannot use is an error.
        Otherwise, such an optimisation starts from the photograph.
    """

    network: NetworkStylizer
    needed: bool

    def __call__(self, photo: Tensor, regions: Sequence[Region]) -> Tensor:
        """Return the start (1, 3, H, W) of a painting of the photograph (1, 3 or 4, H, W)."""
        usable = self.needed or can_use([r.style for r in regions], self.network.encoder)
        return self.network(photo, regions) if usable else opaque(photo)


def start_painter(
    styles: Sequence[Tensor | StyleTarget], options: OptimizeOptions, compute: Compute, encoder: VGG
) -> Painter | None:
    """Return the network that paints an optimisation's start; None if `auto` chose it and it cannot use a style.

    Parameters
    ----------
    encoder : VGG
        The optimisation's encoder.
    """
    known = encoder if (encoder.name, encoder.pooling) == ("compact", "max") else load_encoder("compact")
    needed = options.start != "auto"
    if not needed and not can_use(styles, known):
        return None
    return NetworkStart(network_stylizer(styles, start_options(options), compute, known), needed)


def can_use(styles: Sequence[Tensor | StyleTarget], encoder: VGG) -> bool:
    """Return whether a network with this encoder can use the styles: pictures, and style files that it measured."""
    if all(isinstance(s, Tensor) or s.fits(encoder) for s in styles):
        return True
    log.info("starting from the photograph: the network cannot use a style file of another encoder")
    return False


def start_options(options: OptimizeOptions) -> StylizeOptions:
    """Return the options of the network that paints an optimisation's start: the given size, at full strength."""
    shared = ("style_weights", "style_scale", "stroke_px", "denoise", "mottle", "seed", "offline", "max_memory")
    return StylizeOptions(method="network", scale=1.0, underpainting=0.0, **{k: getattr(options, k) for k in shared})


def choose_texture(
    styles: Sequence[Tensor | StyleTarget],
    size: tuple[int, int],
    seamless: bool,
    options: TextureOptions,
    start: Tensor | None = None,
) -> TextureSynthesizer:
    """Return a synthesizer of textures of height and width `size` in pixels, with the styles bound.

    Raises
    ------
    ImpastoError
        If options, styles, size, encoder and machine do not fit together.
    """
    encoder = load_encoder(choose_encoder_name(options), pooling=options.pooling, offline=options.offline)
    return TextureSynthesizer(styles, size, options, encoder, resolve_compute(options), start, seamless=seamless)


@with_gradients
def load_stylizer(
    source: StyleSource | Sequence[StyleSource],
    options: OptimizeOptions | None = None,
    **changes: Unpack[StylizeChanges],
) -> Stylizer:
    """Return a stylizer with its style bound, for painting many pictures.

    Parameters
    ----------
    source : str, Path, StyleTarget, picture, or a list of them
        A built-in name, a picture or a style file. Several are blended by `style_weights`.
    options : OptimizeOptions or StylizeOptions, optional
        The defaults if not given.
    **changes
        Fields of StylizeOptions to change.

    Returns
    -------
    Stylizer
        Takes and returns (1, 3, H, W), float32, sRGB, [0, 1].

    Examples
    --------
    >>> stylizer = impasto.load_stylizer("starry-night", size=512)  # doctest: +SKIP
    >>> painting = stylizer(impasto.read_image("photo.jpg").tensor)  # doctest: +SKIP
    >>> quick = impasto.load_stylizer("starry-night", quality="instant", strength=0.7)  # doctest: +SKIP
    """
    options = stylize_options(options, changes)
    return choose_stylizer(resolve_styles(source, options.model), options, resolve_start(options))


@with_gradients
def load_texture(
    style: StyleSource | Sequence[StyleSource],
    size: tuple[int, int],
    seamless: bool = False,
    options: TextureOptions | None = None,
    **changes: Unpack[TextureChanges],
) -> TextureSynthesizer:
    """Return a texture synthesizer, for following a texture step by step.

    Parameters
    ----------
    style : str, Path, StyleTarget, picture, or a list of them
        A built-in name, a picture or a style file. Several are blended by `style_weights`.
    size : (int, int)
        Height and width in pixels.
    seamless : bool
        Make the texture tile the plane.
    options : TextureOptions, optional
        The defaults if not given.
    **changes
        Fields of TextureOptions to change.

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
    styles = [resolve_style(s) for s in (style if isinstance(style, list | tuple) else [style])]
    return choose_texture(styles, size, seamless, options, resolve_start(options))


def stylize_options(options: OptimizeOptions | None, changes: Mapping[str, Any]) -> StylizeOptions:
    """Return the options with some fields changed, as StylizeOptions."""
    if not isinstance(options, StylizeOptions):
        options = StylizeOptions(**({} if options is None else options.to_dict()))
    return with_changes(options, changes)


def with_changes(options: T, changes: Mapping[str, Any]) -> T:
    """Return the options with some fields changed. Raises OptionError with the nearest names for an unknown field."""
    check_names(options, changes)
    return type(options).from_dict({**options.to_dict(), **changes})


def check_names(options: Options | LearnOptions, changes: Mapping[str, Any]) -> None:
    """Raise OptionError with the nearest names if `changes` has an unknown field."""
    names = names_of(type(options))
    for key in changes:
        if key not in names:
            near = get_close_matches(key, names, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"impasto.{type(options).__name__} lists them"
            raise OptionError(f"there is no option {key!r}; {hint}")
