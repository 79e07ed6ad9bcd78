"""Regions: every part of a painting is in its own style, measured."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import impasto
from impasto.cli import main
from impasto.device import choose_compute
from impasto.errors import OptionError
from impasto.image.io import Picture, read_image, write_image
from impasto.models.vgg import STYLE_LAYERS, VGG
from impasto.models.weights import load_encoder
from impasto.style.losses import PerceptualLoss, divide, gram_loss
from impasto.style.statistics import head_metric, masked_moments, raw_moments
from impasto.stylize.choose import load_stylizer, resolve_region, split_region

BRIEF: dict[str, Any] = {"size": 128, "coarsest": 64, "iterations": 30, "precision": "float32"}


@pytest.fixture(scope="module")
def pictures(photo: Callable[[str, int], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Content, and two styles that are far apart."""
    return photo("chelsea", 128), photo("coffee", 128), photo("rocket", 128)


@pytest.fixture(scope="module")
def left() -> Tensor:
    mask = torch.zeros(1, 1, 40, 60)  # of another size than the content
    mask[..., :30] = 1
    return mask


def half_distance(encoder: VGG, painting: Tensor, style: Tensor, left_half: bool) -> float:
    """Style distance of one half of a painting, well inside it."""
    w = painting.shape[3]
    part = painting[..., : w // 2] if left_half else painting[..., w // 2 :]
    with torch.no_grad():
        found, wanted = encoder(part, STYLE_LAYERS), encoder(style, STYLE_LAYERS)
        distances = [
            gram_loss(raw_moments(found[k]), raw_moments(wanted[k]), head_metric(encoder, k)) for k in STYLE_LAYERS
        ]
    return torch.stack(distances).sqrt().mean().item()


def test_masked_moments() -> None:
    f = torch.randn(1, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 6, 8)
    mask[..., 2:4, 5:] = 1
    torch.testing.assert_close(masked_moments(f, mask), raw_moments(f[..., 2:4, 5:]))
    torch.testing.assert_close(masked_moments(f, torch.full_like(mask, 0.3)), raw_moments(f))
    weights = torch.rand(1, 1, 6, 8, dtype=torch.float64)
    x = f.double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda f: masked_moments(f, weights), (x,))
    assert masked_moments(f, 0 * mask).isfinite().all()


def test_the_area_is_divided() -> None:
    base, a, b = ({"relu1_1": torch.full((1, 2, 2), float(i))} for i in range(3))
    assert divide(base, ()) == [(1.0, None, base)]
    one, two = torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 4, 4)
    one[..., :2] = 1
    two[..., 1:3] = 1  # overlaps by a column, which both share
    parts = divide(base, [(one, a), (two, b)])
    assert [s for s, _, _ in parts] == pytest.approx([0.375, 0.375, 0.25])
    assert [m for _, _, m in parts] == [a, b, base]
    masks = torch.cat([m for _, m, _ in parts if m is not None], 1)
    torch.testing.assert_close(masks.sum(1), torch.ones(1, 4, 4))
    assert len(divide(base, [(torch.ones(1, 1, 4, 4), a)])) == 1  # nothing is left for the base


def test_one_region_everywhere_is_the_style_itself(pictures: tuple[Tensor, Tensor, Tensor]) -> None:
    content, style, _ = pictures
    compute, encoder = choose_compute(precision="float32"), load_encoder("compact")
    with torch.no_grad():
        moments = {k: raw_moments(f) for k, f in encoder(style, STYLE_LAYERS).items()}
    weights = {"content_weight": 0.0, "style_weight": 1.0, "margin": 8}
    plain = PerceptualLoss(encoder, compute, content, moments, **weights)(content)
    everywhere = torch.ones(1, 1, *content.shape[2:])
    masked = PerceptualLoss(encoder, compute, content, moments, regions=[(everywhere, moments)], **weights)(content)
    torch.testing.assert_close(masked["style"], plain["style"], rtol=1e-4, atol=0)


def test_each_half_is_in_its_own_style(pictures: tuple[Tensor, Tensor, Tensor], left: Tensor) -> None:
    content, a, b = pictures
    encoder = load_encoder("compact")
    mask, brief = left[0, 0].numpy(), {**BRIEF, "iterations": 60}
    painting = impasto.stylize(content, b, regions=[(mask, a)], **brief)
    swapped = impasto.stylize(content, a, regions=[(mask, b)], **brief)
    for left_half, own in ((True, a), (False, b)):
        distances = [half_distance(encoder, p, own, left_half) for p in (painting, swapped)]
        assert distances[0] <= 0.5 * distances[1]


def test_regions_and_kept_colours(pictures: tuple[Tensor, Tensor, Tensor], left: Tensor) -> None:
    content, a, b = pictures
    region = resolve_region(left[0, 0].numpy(), a)
    brief = {**BRIEF, "iterations": 2, "keep_colours": 1.0}
    stylizer = load_stylizer(b, **brief)
    assert not torch.equal(stylizer(content, [region]), stylizer(content))


def test_gatys_has_none(pictures: tuple[Tensor, Tensor, Tensor], left: Tensor) -> None:
    content, a, b = pictures
    with pytest.raises(OptionError, match="gatys has no regions"):
        load_stylizer(b, preset="gatys", iterations=1)(content, [resolve_region(left[0, 0].numpy(), a)])


@pytest.mark.parametrize("text", ["mask.png", "=style", "mask.png=", ""])
def test_a_region_has_a_mask_and_a_style(text: str) -> None:
    with pytest.raises(OptionError, match="MASK=STYLE"):
        split_region(text)


def test_on_the_command_line(
    pictures: tuple[Tensor, Tensor, Tensor],
    left: Tensor,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, picture in zip(("photo", "a", "b"), pictures, strict=True):
        write_image(Picture(picture), f"{name}.png")
    Image.fromarray((left[0, 0] * 255).byte().numpy()).save("left.png")
    brief = ["--size", "64", "--iterations", "4"]
    assert main(["stylize", "photo.png", "b.png", "--region", "left.png=a.png", "-o", "out.png", *brief]) == 0
    assert main(["stylize", "photo.png", "b.png", "-o", "plain.png", *brief]) == 0
    out = read_image("out.png").tensor
    assert not torch.equal(out, read_image("plain.png").tensor)
    assert main(["rerun", "out.png", "-o", "again.png"]) == 0
    assert torch.equal(read_image("again.png").tensor, out)
    capsys.readouterr()
    assert main(["stylize", "photo.png", "b.png", "--region", "none.png=a.png", "-o", "x.png", *brief]) == 1
    assert "none.png does not exist" in capsys.readouterr().err
