"""Any kind of picture in, and the result as the same kind: paths, PIL images, NumPy arrays, tensors."""

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..errors import OptionError
from . import exif
from .container import dpi_of, exif_of, xmp_of
from .decode import from_pillow
from .iptc import iptc_of
from .picture import Metadata, Picture
from .read import picture_of, read_image
from .reduction import Sized
from .source import decoding, printable
from .write import quantised

INTEGER_TYPES = (np.dtype(np.uint8), np.dtype(np.uint16))
LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Rec. 709's weights of red, green and blue."""
OVERSHOOT = 1e-3
"""By how much floats may leave [0, 1], as they do after a resize; they are clamped."""


def to_picture(obj: Any, *, max_megapixels: float = 200.0, sized: Sized | None = None) -> Picture:
    """Make a Picture of whatever picture it is.

    Parameters
    ----------
    obj : path, "-", binary file, PIL image, array, tensor or Picture
        Arrays are (H, W) or (H, W, C) with C of 1 (grey), 2 (grey and alpha), 3 (RGB) or 4 (RGB and alpha), uint8,
        uint16 or floating in [0, 1]. Tensors are (3, H, W) or (1, 3, H, W), uint8 or floating in [0, 1]. Both are taken
        as sRGB. PIL images are turned upright and brought to sRGB as files are.
    max_megapixels : float
        For files: the most pixels allowed, in millions.
    sized : callable, optional
        For files: what size is needed, as for `read_image`.

    Returns
    -------
    Picture
        Its tensor is (1, 3, H, W), float32, sRGB, range [0, 1], on the device of the tensor that was given.

    Raises
    ------
    OptionError
        If it is of another kind, shape or type, is empty, leaves the range, or holds NaN.
    PictureError
        If a file cannot be read.
    """
    if isinstance(obj, Picture):
        return obj
    if isinstance(obj, Image.Image):
        return _from_pil(obj)
    if isinstance(obj, np.ndarray):
        return _from_array(obj)
    if isinstance(obj, Tensor):
        return _from_tensor(obj)
    if isinstance(obj, str | os.PathLike) or hasattr(obj, "read"):
        return read_image(obj, max_megapixels=max_megapixels, sized=sized)
    raise OptionError(
        f"a picture is given as a path, PIL image, NumPy array, torch tensor or Picture, not as {type(obj).__name__}"
    )


def like(picture: Picture, obj: Any) -> Any:
    """A result as the kind of picture that its input was.

    Parameters
    ----------
    picture : Picture
        The result; its tensor is (1, 3, H, W), float32, sRGB, range [0, 1].
    obj : path, "-", binary file, PIL image, array, tensor or Picture
        The input, as `to_picture` takes it. Its size does not matter.

    Returns
    -------
    PIL image, array, tensor or Picture
        For a path, file or PIL image: a PIL image, RGBA where the picture has alpha, else RGB. For an array: one of the
        same type and number of channels (grey by Rec. 709's weights). For a tensor: one of the same type, rank and
        device.

    Raises
    ------
    OptionError
        If `obj` is of no kind that `to_picture` takes.
    """
    if isinstance(obj, Picture):
        return picture
    if isinstance(obj, np.ndarray):
        return _like_array(picture, obj)
    if isinstance(obj, Tensor):
        tensor = picture.tensor.detach().clamp(0, 1).to(obj.device)
        tensor = (tensor * 255).round().to(torch.uint8) if obj.dtype == torch.uint8 else tensor.to(obj.dtype)
        return tensor if obj.ndim == 4 else tensor[0]
    if isinstance(obj, Image.Image | str | os.PathLike) or hasattr(obj, "read"):
        levels = quantised(_rows(picture, 3 if picture.alpha is None else 4), np.dtype(np.uint8))
        return Image.fromarray(levels)
    raise OptionError(f"a picture cannot be given back as {type(obj).__name__}")


def _from_pil(image: Image.Image) -> Picture:
    name = printable(str(getattr(image, "filename", "") or "the picture"))
    if 0 in image.size:
        raise OptionError(f"{name} has no pixels ({image.size[0]}x{image.size[1]})")
    with decoding(name):
        image.load()
        tags = image.getexif()
        block = exif_of(image, None) or (tags.tobytes() if len(tags) else b"")
        samples, turn = from_pillow(image, name), tags.get(exif.ORIENTATION, 1)
        beside = dpi_of(image), iptc_of(image)
        return picture_of(samples, turn, name, image.format or "", block, xmp_of(image), *beside)


def _from_array(array: NDArray[Any]) -> Picture:
    shape = array.shape
    if array.ndim not in (2, 3) or 0 in shape or (array.ndim == 3 and shape[2] not in (1, 2, 3, 4)):
        hint = "; move the channels last" if array.ndim == 3 and shape[0] in (1, 3, 4) else ""
        raise OptionError(f"an array of shape {shape} is no picture; it must be (H, W) or (H, W, 1 to 4){hint}")
    if array.dtype in INTEGER_TYPES:
        values = array.astype(np.float32) / np.float32(np.iinfo(array.dtype).max)
    elif array.dtype.kind == "f":
        values = array.astype(np.float32)
    else:
        raise OptionError(f"an array of type {array.dtype} is no picture; make it uint8, uint16 or floats in [0, 1]")
    rows = torch.from_numpy(np.ascontiguousarray(values))
    rows = rows[:, :, None] if rows.ndim == 2 else rows
    channels = rows.permute(2, 0, 1)[None]  # (1, C, H, W)
    if array.dtype.kind == "f":
        channels = _in_range(channels, "an array")
    coloured = 3 if shape[-1] in (3, 4) and array.ndim == 3 else 1
    alpha = channels[:, coloured:].contiguous() if channels.shape[1] > coloured else None
    metadata = Metadata(bits=8 if array.dtype == np.uint8 else 16)
    return Picture(channels[:, :coloured].expand(-1, 3, -1, -1).contiguous(), alpha, metadata)


def _from_tensor(tensor: Tensor) -> Picture:
    shape = tuple(tensor.shape)
    if tensor.ndim not in (3, 4) or 0 in shape or shape[-3] != 3 or (tensor.ndim == 4 and shape[0] != 1):
        hint = "; move the channels first" if tensor.ndim == 3 and shape[-1] == 3 else ""
        raise OptionError(f"a tensor of shape {shape} is no picture; it must be (3, H, W) or (1, 3, H, W){hint}")
    if tensor.dtype != torch.uint8 and not tensor.dtype.is_floating_point:
        raise OptionError(f"a tensor of type {tensor.dtype} is no picture; make it uint8 or floats in [0, 1]")
    values = tensor.detach().to(torch.float32)
    values = values / 255 if tensor.dtype == torch.uint8 else _in_range(values, "a tensor")
    values = values if values.ndim == 4 else values[None]
    return Picture(values.contiguous(), None, Metadata(bits=8 if tensor.dtype == torch.uint8 else 16))


def _in_range(values: Tensor, what: str) -> Tensor:
    if not torch.isfinite(values).all():
        raise OptionError(f"{what} holds NaN or infinity, so it is no picture")
    low, high = float(values.min()), float(values.max())
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        hint = "; divide it by 255" if low >= 0 and 2 < high <= 255 else ""
        raise OptionError(f"{what} goes from {low:g} to {high:g}; floats must lie in [0, 1]{hint}")
    return values.clamp(0, 1)


def _rows(picture: Picture, channels: int) -> Tensor:
    """(H, W, channels) on the CPU: grey, grey and alpha, RGB, or RGB and alpha."""
    colour = picture.tensor.detach().float().cpu()
    if channels < 3:
        colour = (colour * torch.tensor(LUMINANCE).view(1, 3, 1, 1)).sum(1, keepdim=True)
    if channels in (2, 4):
        alpha = torch.ones_like(colour[:, :1]) if picture.alpha is None else picture.alpha.detach().float().cpu()
        colour = torch.cat((colour, alpha), dim=1)
    return colour[0].permute(1, 2, 0)


def _like_array(picture: Picture, array: NDArray[Any]) -> NDArray[Any]:
    rows = _rows(picture, 1 if array.ndim == 2 else array.shape[2])
    rows = rows[:, :, 0] if array.ndim == 2 else rows
    if array.dtype in INTEGER_TYPES:
        return quantised(rows, array.dtype)
    return np.ascontiguousarray(rows.clamp(0, 1).numpy().astype(array.dtype))
