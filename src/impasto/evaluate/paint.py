"""Paint the grid of photographs and styles that is evaluated."""

from functools import lru_cache
from pathlib import Path
from typing import get_args

from ..errors import OptionError
from ..image.picture import Picture
from ..image.read import read_image
from ..image.write import write_image
from ..models.networks import find_network
from ..options import Quality, StylizeOptions
from ..stylizers.choose import load_stylizer
from ..stylizers.protocol import Stylizer
from .pairs import Triple


class Painter:
    """Paints with one quality, or with one network, at the judge's size.

    Parameters
    ----------
    name : str
        A quality (`instant`, `draft`, `good`, `best`) or the path of a network's file.
    size : int
        Long side of the paintings in pixels.
    device : str
        As in the options.
    offline : bool
        Never download anything.

    Raises
    ------
    OptionError
        If the name is neither.
    WeightsError
        If the file is not a network.
    """

    def __init__(self, name: str, size: int, device: str = "auto", offline: bool = False):
        shared = {"size": size, "device": device, "offline": offline}
        if name in get_args(Quality):
            self.options = StylizeOptions(quality=name, **shared)  # pyright: ignore[reportArgumentType]
        elif not Path(name).exists():
            qualities = ", ".join(get_args(Quality))
            raise OptionError(f"--paint {name} is neither a quality ({qualities}) nor the file of a network")
        else:
            find_network(name)
            self.options = StylizeOptions(quality="instant", model=name, **shared)
        self.stylizer = lru_cache(1)(self._stylizer)  # the grid is painted style by style

    def paint(self, triple: Triple) -> None:
        """Paint a photograph in a style and write the result. Raises ImpastoError if one of them cannot be read."""
        photo = read_image(triple.content)
        painting = self.stylizer(triple.style)(photo.pixels)
        triple.result.parent.mkdir(parents=True, exist_ok=True)
        write_image(Picture(painting.cpu()), triple.result)

    def _stylizer(self, style: Path) -> Stylizer:
        return load_stylizer(style, self.options)
