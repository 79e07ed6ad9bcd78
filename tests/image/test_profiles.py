"""A picture's colour profile is converted to sRGB."""

import io
import logging
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms

from impasto.image.profiles import is_srgb, srgb_profile
from impasto.image.read import read_image

RED = (200, 50, 100)


def levels_of(data: bytes) -> list[int]:
    """Return the first pixel, 0 to 255."""
    return (read_image(io.BytesIO(data)).tensor[0, :, 0, 0] * 255).round().int().tolist()


def near(found: list[int], expected: list[int], tolerance: int = 3) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
def test_a_displays_profile(encoded: Any, display_profile: bytes, file_format: str) -> None:
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}.get(file_format, {})
    data = encoded(Image.new("RGB", (16, 16), RED), file_format, icc_profile=display_profile, **options)
    assert near(levels_of(data), [50, 200, 100], 6 if file_format == "AVIF" else 4)


def test_alpha_passes_by_the_profile(encoded: Any, display_profile: bytes) -> None:
    picture = read_image(io.BytesIO(encoded(Image.new("RGBA", (4, 4), (*RED, 77)), "PNG", icc_profile=display_profile)))
    assert picture.alpha is not None
    assert torch.allclose(picture.alpha * 255, torch.full((1, 1, 4, 4), 77.0))
    assert near((picture.tensor[0, :, 0, 0] * 255).round().int().tolist(), [50, 200, 100], 4)


def test_a_palettes_profile(encoded: Any, display_profile: bytes) -> None:
    image = Image.new("P", (4, 4))
    image.putpalette(list(RED))
    assert near(levels_of(encoded(image, "PNG", icc_profile=display_profile)), [50, 200, 100], 4)


def test_a_grey_profile(encoded: Any, grey_profile: bytes) -> None:
    # 100 / 255 of linear light is 168 / 255 in sRGB.
    for kind in ("PNG", "JPEG", "TIFF"):
        assert near(levels_of(encoded(Image.new("L", (16, 16), 100), kind, icc_profile=grey_profile)), [168] * 3, 1)
    assert near(levels_of(encoded(Image.new("LA", (16, 16), (100, 9)), "PNG", icc_profile=grey_profile)), [168] * 3, 1)


def test_a_grey_picture_with_a_profile_for_rgb(encoded: Any, display_profile: bytes) -> None:
    found = levels_of(encoded(Image.new("L", (16, 16), 100), "PNG", icc_profile=display_profile))
    assert near(found, [100] * 3)


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_a_printers_profile(encoded: Any, cmyk_profile: bytes, file_format: str) -> None:
    ink = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    cyan = levels_of(encoded(ink, file_format, icc_profile=cmyk_profile))
    magenta = levels_of(encoded(Image.new("CMYK", (16, 16), (0, 255, 0, 0)), file_format, icc_profile=cmyk_profile))
    assert near(cyan, magenta)  # in this profile all inks look alike: a bluish grey
    assert cyan[2] > cyan[0] + 10
    assert not near(levels_of(encoded(ink, file_format)), cyan, 20)


def test_lab(encoded: Any) -> None:
    source = Image.new("RGB", (16, 16), RED)
    lab = ImageCms.profileToProfile(
        source, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert near(levels_of(encoded(lab, "TIFF")), list(RED))


@pytest.mark.parametrize("damage", ["noise", "cut", "grey", "printer"])
def test_a_profile_that_cannot_be_used(
    encoded: Any,
    display_profile: bytes,
    grey_profile: bytes,
    cmyk_profile: bytes,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    profile = {"noise": b"noise" * 50, "cut": display_profile[:200], "grey": grey_profile, "printer": cmyk_profile}
    data = encoded(Image.new("RGB", (4, 4), RED), "PNG", icc_profile=profile[damage])
    with caplog.at_level(logging.WARNING):
        assert levels_of(data) == list(RED)
    (message,) = caplog.messages
    assert "colour profile cannot be used" in message
    assert "\n" not in message


def test_our_profile() -> None:
    assert srgb_profile() == srgb_profile()
    assert is_srgb(srgb_profile())
    assert is_srgb(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert not is_srgb(ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes())
    profile = ImageCms.ImageCmsProfile(io.BytesIO(srgb_profile()))
    assert "sRGB" in ImageCms.getProfileDescription(profile)


def test_our_profile_changes_nothing(levels: NDArray[np.uint8], encoded: Any) -> None:
    plain = read_image(io.BytesIO(encoded(Image.fromarray(levels), "PNG")))
    tagged = read_image(io.BytesIO(encoded(Image.fromarray(levels), "PNG", icc_profile=srgb_profile())))
    assert plain.tensor.equal(tagged.tensor)
