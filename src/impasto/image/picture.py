"""`Picture`: what stands between a file and the tensor that the rest of the package works on."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..errors import OptionError, PictureError
from .resize import resize


@dataclass(frozen=True)
class Metadata:
    """What is kept of a picture's file besides its pixels.

    Parameters
    ----------
    name : str
        What messages call the picture: its path as it was given, or `standard input`.
    format : str
        The file's format by Pillow's name (`JPEG`, `PNG` ...), or "" for a picture that came from no file.
    bits : int
        Bits a sample of the source as it was read: 8 or 16 (floats count as 16).
    exif : bytes
        The EXIF block as a TIFF structure, without orientation, thumbnail and maker note, or b"".
    xmp : bytes
        The XMP packet, without orientation and thumbnail, or b"".
    iptc : bytes
        The IPTC record, without previews, or b"".
    full_size : (int, int) or None
        (H, W) of the file's picture, where it was reduced while it was read.
    """

    name: str = "the picture"
    format: str = ""
    bits: int = 8
    exif: bytes = b""
    xmp: bytes = b""
    iptc: bytes = b""
    full_size: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture in memory.

    Parameters
    ----------
    tensor : Tensor
        (1, 3, H, W), float32, sRGB, range [0, 1].
    alpha : Tensor or None
        (1, 1, H, W), float32, range [0, 1], 1 where opaque; None where the picture has no transparency.
        The colours are not multiplied by it.
    metadata : Metadata
        What is kept of its file.

    Raises
    ------
    OptionError
        If a shape is another one.
    """

    tensor: Tensor
    alpha: Tensor | None = None
    metadata: Metadata = field(default_factory=Metadata)

    def __post_init__(self) -> None:
        shape = tuple(self.tensor.shape)
        if len(shape) != 4 or shape[:2] != (1, 3) or 0 in shape:
            raise OptionError(f"a picture's tensor has shape {shape}; it must be (1, 3, H, W)")
        if self.alpha is not None and tuple(self.alpha.shape) != (1, 1, *shape[2:]):
            wanted = (1, 1, *shape[2:])
            raise OptionError(f"a picture's alpha has shape {tuple(self.alpha.shape)}; it must be {wanted}")

    @property
    def pixels(self) -> Tensor:
        """What is to be seen of the picture: its tensor, or (1, 4, H, W) with the alpha last, where any is transparent.

        PictureError if all of it is.
        """
        if self.alpha is None or self.alpha.min() >= 1:
            return self.tensor
        if self.alpha.max() <= 0:
            raise PictureError(f"{self.metadata.name} is transparent everywhere: nothing of it is to be seen")
        return torch.cat((self.tensor, self.alpha.to(self.tensor)), 1)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.tensor.shape[2], self.tensor.shape[3]

    def with_tensor(self, tensor: Tensor) -> "Picture":
        """The same picture with other pixels, its alpha resized where the new ones have another size.

        Parameters
        ----------
        tensor : Tensor
            (1, 3, H', W'), float32, sRGB, range [0, 1].
        """
        alpha = self.alpha
        if alpha is not None:
            height, width = tensor.shape[-2:]
            alpha = resize(alpha, (height, width)).to(tensor.device)
        return replace(self, tensor=tensor, alpha=alpha)
