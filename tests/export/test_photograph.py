"""The photograph's own style, measured inside the graph, equals what the package measures."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from impasto.export.photograph import PhotographStyle, moments, reduced, resizing
from impasto.export.styles import PLAIN, Style
from impasto.image.resize import fit_size, resize
from impasto.models.moments import raw_moments
from impasto.models.network import Network
from impasto.models.vgg import VGG
from impasto.options import StylizeOptions
from impasto.stylizers.network import PHOTO_SIZE, NetworkStylizer


@pytest.mark.parametrize("size", [(16, 16), (97, 131), (512, 40), (513, 300), (700, 999), (2048, 33)])
def test_reduced_is_resized(size: tuple[int, int], levels: Callable[..., Tensor]) -> None:
    photo = levels(*size).float() / 255
    expected = resize(photo, fit_size(size, long_side=PHOTO_SIZE))
    torch.testing.assert_close(reduced(photo), expected, rtol=0, atol=2e-5)


def test_the_same_size_is_the_same_picture() -> None:
    torch.testing.assert_close(resizing(7, 7), torch.eye(7))


def test_half_a_size_by_hand() -> None:
    """Keys' cubic, twice as wide, is sampled at distances 1/4, 3/4, 5/4 and 7/4 on both sides, away from the border."""
    near = [1.5 * x**3 - 2.5 * x**2 + 1 for x in (0.25, 0.75)]
    far = [-0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 for x in (1.25, 1.75)]
    row = torch.tensor([*reversed(far), *reversed(near), *near, *far]) / 2
    torch.testing.assert_close(resizing(12, 6)[2, 1:9], row, rtol=0, atol=1e-6)


def test_moments() -> None:
    features = torch.randn(2, 5, 6, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(moments(features), raw_moments(features))


def test_affine_is_the_stylizer_s(
    net: Network, encoder: VGG, styles: list[Style], levels: Callable[..., Tensor]
) -> None:
    photo = levels(97, 131).float() / 255
    options = StylizeOptions(method="network", strength=0.0)
    stylizer = NetworkStylizer(net, [photo], options, encoder, PLAIN)
    expected, _ = stylizer.at_strength(stylizer.styles_of(131, [], False), photo, raw_moments(photo), 0.0)
    found = PhotographStyle(net, encoder, torch.float32)(photo)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
