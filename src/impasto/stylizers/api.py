"""The library's one-shot calls: `stylize`, `texture` and `learn`. `stylize` returns the kind of picture it is given."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image
from typing_extensions import Unpack

from ..device import choose_compute, with_gradients
from ..image.picture import Picture
from ..image.read import like, to_picture
from ..models.networks import find_network
from ..models.weights import load_encoder
from ..options import LearnOptions, OptimizeOptions, TextureOptions
from ..options.changes import LearnChanges, StylizeChanges, TextureChanges
from ..style.target import STYLE_SIZES, StyleTarget
from .choose import check_names, choose_stylizer, load_texture, planned_size, stylize_options
from .learn import Photographs
from .learn import learn as steps_of_learning
from .schedule import painting_size
from .sources import (
    StyleSource,
    photo_options,
    resolve_mask,
    resolve_region,
    resolve_start,
    resolve_style,
    resolve_styles,
    style_side,
)


@with_gradients
def stylize(
    content: Any,
    style: StyleSource | Sequence[StyleSource],
    options: OptimizeOptions | None = None,
    *,
    regions: Sequence[tuple[Any, StyleSource]] = (),
    mask: Any = None,
    **changes: Unpack[StylizeChanges],
) -> Any:
    """Paint a photograph in the style of another picture.

    Parameters
    ----------
    content : path, PIL image, array, tensor or Picture
        The photograph. Arrays are (H, W, 3) or (H, W), uint8, uint16 or float in [0, 1]; tensors (3, H, W) or
        (1, 3, H, W), float in [0, 1] or uint8.
    style : the same, a built-in style's name, a style file, a StyleTarget, or a list of them
        Several styles are blended by `style_weights`.
    options : OptimizeOptions or StylizeOptions, optional
        The defaults if not given.
    regions : sequence of (mask, style)
        Parts of the photograph with their own styles. A mask is any kind of picture: white inside the region, or
        transparent outside it, or boolean; any size with the photograph's proportions. `style` applies to the rest.
    mask : the same, optional
        White where to paint. The rest stays the photograph.
    **changes
        Fields of StylizeOptions to change (docs/options.md): `size=512`, `quality="best"` ...

    Returns
    -------
    The same kind of picture as `content`; a PIL image for a path.

    Raises
    ------
    ImpastoError
        With a one-line message that says what is wrong and what to do.

    Examples
    --------
    >>> impasto.stylize("photo.jpg", "starry-night", size=512).save("painting.png")  # doctest: +SKIP
    """
    chosen = stylize_options(options, changes)
    photo = to_picture(content, sized=lambda size: planned_size(size, chosen))
    size = painting_size(photo.metadata.full_size or photo.size, chosen)
    long = style_side(size, chosen)
    parts = [resolve_region(m, s, model=chosen.model, size=size, long_side=long) for m, s in regions]
    styles = resolve_styles(style, chosen.model, long)
    stylizer = choose_stylizer(styles, photo_options(photo, chosen), resolve_start(chosen, size=size))
    where = None if mask is None else resolve_mask(mask, size=size)
    image = stylizer(photo.pixels, parts, where)
    return like(photo.with_tensor(image.cpu()), content)


@with_gradients
def texture(
    style: StyleSource | Sequence[StyleSource],
    size: tuple[int, int] = (1024, 1024),
    seamless: bool = False,
    options: TextureOptions | None = None,
    **changes: Unpack[TextureChanges],
) -> Image.Image:
    """Make a texture of a painting: a picture with its colours and strokes, but without its subject.

    Gatys, Ecker, Bethge, "Texture Synthesis Using Convolutional Neural Networks", NIPS 2015.

    Parameters
    ----------
    style : any kind of picture, a built-in style's name, a style file, a StyleTarget, or a list of them
        Several styles are blended by `style_weights`.
    size : (int, int)
        Height and width in pixels.
    seamless : bool
        Make the texture tile the plane: opposite borders continue each other.
    options : TextureOptions, optional
        The defaults if not given.
    **changes
        Fields of TextureOptions to change (docs/options.md): `iterations=500`, `style_scale=0.5` ...

    Returns
    -------
    PIL.Image.Image
        RGB, sRGB. Use `load_texture` for the intermediate steps and the tensor.

    Raises
    ------
    ImpastoError
        With a one-line message that says what is wrong and what to do.

    Examples
    --------
    >>> impasto.texture("starry-night", (512, 512), seamless=True).save("texture.png")  # doctest: +SKIP
    """
    image = load_texture(style, size, seamless, options, **changes)()
    return like(Picture(image.cpu()), Image.new("RGB", (1, 1)))


@with_gradients
def learn(
    style: StyleSource,
    options: LearnOptions | None = None,
    *,
    model: str | None = None,
    photographs: Photographs | None = None,
    **changes: Unpack[LearnChanges],
) -> StyleTarget:
    """Learn a style in seconds, so that the network paints it better.

    Parameters
    ----------
    style : any kind of picture, a built-in style's name, a style file or a StyleTarget
        The style.
    options : LearnOptions, optional
        The defaults if not given.
    model : str, optional
        The model file of the network that learns the style; the bundled network if not given.
    photographs : Photographs, optional
        The photographs to learn on. By default a dozen bundled photographs.
    **changes
        Fields of LearnOptions to change (docs/options.md): `seconds=10` ...

    Returns
    -------
    StyleTarget
        Can be passed wherever a style is expected. `save` writes it to a style file.

    Raises
    ------
    ImpastoError
        With a one-line message that says what is wrong and what to do.

    Examples
    --------
    >>> mine = impasto.learn("painting.jpg", seconds=10)  # doctest: +SKIP
    >>> impasto.stylize("photo.jpg", mine, quality="instant")  # doctest: +SKIP
    """
    o = options or LearnOptions()
    check_names(o, changes)
    o = replace(o, **changes)
    net, encoder, compute = find_network(model), load_encoder("compact"), choose_compute(o.device, o.precision)
    source = resolve_style(style, model=model, long_side=STYLE_SIZES[-1])
    if not isinstance(source, StyleTarget):
        compute.network(encoder)
        source = StyleTarget.of(source, encoder, compute)
    *_, last = steps_of_learning(net, source, encoder, compute, o, photographs)
    return last.style
