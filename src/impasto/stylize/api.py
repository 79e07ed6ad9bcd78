"""`impasto.stylize`: one call, any kind of picture in, the same kind out."""

from collections.abc import Sequence
from typing import Any

from ..image.convert import like, to_picture
from ..options import OptimizeOptions
from .choose import StyleSource, load_stylizer, resolve_region


def stylize(
    content: Any,
    style: StyleSource | Sequence[StyleSource],
    options: OptimizeOptions | None = None,
    *,
    regions: Sequence[tuple[Any, StyleSource]] = (),
    **changes: Any,
) -> Any:
    """Paint a photograph in the style of another picture.

    Parameters
    ----------
    content : path, PIL image, array, tensor or Picture
        The photograph. Arrays are (H, W, 3) or (H, W), uint8, uint16 or float in [0, 1]; tensors (3, H, W) or
        (1, 3, H, W), float in [0, 1] or uint8.
    style : the same, a built-in style's name, a style file, a StyleTarget, or a list of them
        Several styles blend by `style_weights`.
    options : OptimizeOptions, optional
        The defaults if not given.
    regions : sequence of (mask, style)
        Parts of the photograph with styles of their own; a mask is any kind of picture, white where the region is, and
        of any size. `style` is for the rest.
    **changes
        Fields of OptimizeOptions that differ: `size=512`, `quality="best"` ...

    Returns
    -------
    The caller's own kind of picture; a PIL image where a path was given.

    Raises
    ------
    ImpastoError
        With one line that says what is wrong and what to do.

    Examples
    --------
    >>> impasto.stylize("photo.jpg", "starry-night", size=512).save("painting.png")  # doctest: +SKIP
    """
    photo = to_picture(content)
    image = load_stylizer(style, options, **changes)(photo.tensor, [resolve_region(m, s) for m, s in regions])
    return like(photo.with_tensor(image.cpu()), content)
