"""Every part of a painting is in its own style, by measurement."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from impasto.cli import main
from impasto.errors import OptionError
from impasto.image.picture import Picture
from impasto.image.read import read_image
from impasto.image.write import write_image
from impasto.stylizers.choose import load_stylizer
from impasto.stylizers.optimize import OptimizeStylizer
from impasto.stylizers.protocol import Region
from impasto.stylizers.sources import resolve_region, split_region

Make = Callable[..., OptimizeStylizer]
BRIEF: dict[str, Any] = {"size": 128, "coarsest": 64, "iterations": 30, "optimizer": "lbfgs"}


@pytest.fixture(scope="module")
def pictures(photo: Callable[[str, int], Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the content, and two styles that are far apart."""
    return photo("chelsea", 128), photo("coffee", 128), photo("rocket", 128)


@pytest.fixture(scope="module")
def left() -> Tensor:
    mask = torch.zeros(1, 1, 40, 60)  # of another size than the content
    mask[..., :30] = 1
    return mask


@pytest.mark.parametrize("style_loss", ["moments", "gram", "nn"])
def test_one_region_everywhere_is_the_style_itself(
    pictures: tuple[Tensor, Tensor, Tensor], make: Make, style_loss: str
) -> None:
    """The losses of the first picture are equal up to rounding, and so is the painting after a few iterations."""
    content, a, b = pictures
    options: dict[str, Any] = {
        "size": 128,
        "coarsest": 128,
        "iterations": 2,
        "style_loss": style_loss,
        "optimizer": "lbfgs",
    }
    plain = list(make((a,), **options, histogram_weight=0.1).steps(content))
    everywhere = Region(torch.ones(1, 1, 20, 30), a)
    masked = list(make((b,), **options, histogram_weight=0.1).steps(content, [everywhere]))
    assert dict(masked[0].losses) == {k: pytest.approx(v, rel=1e-3, abs=1e-7) for k, v in plain[0].losses.items()}
    torch.testing.assert_close(masked[-1].image, plain[-1].image, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    "style_loss",
    [*(pytest.param(k, marks=pytest.mark.slow) for k in ("gram", "moments:1,nn:1")), "moments", "nn"],
)
def test_each_half_is_in_its_own_style(
    pictures: tuple[Tensor, Tensor, Tensor], left: Tensor, make: Make, measure: Any, style_loss: str
) -> None:
    """The distance of a half to its own style is at most half of the distance with the styles swapped."""
    content, a, b = pictures
    options = {**BRIEF, "iterations": 40, "style_loss": style_loss}
    painting = make((b,), **options)(content, [Region(left, a)])
    swapped = make((a,), **options)(content, [Region(left, b)])
    kind, middle = "nn" if style_loss == "nn" else "gram", painting.shape[3] // 2
    for half, own in ((slice(0, middle), a), (slice(middle, None), b)):
        distances = [measure.style(p[..., half], own, kind, size=128) for p in (painting, swapped)]
        assert distances[0] <= 0.5 * distances[1]


@pytest.mark.parametrize("width", [64, 32])
def test_a_region_counts_by_its_area(pictures: tuple[Tensor, Tensor, Tensor], make: Make, width: int) -> None:
    """The loss is the mean of the losses of the parts alone, each measured with a mask, weighted by area."""
    content, a, b = pictures
    options: dict[str, Any] = {"size": 128, "coarsest": 128, "iterations": 1, "mask_feather": 0.0, "optimizer": "lbfgs"}
    options |= {"denoise": 0.0, "mottle": 0.0}  # outside of a mask, the photograph is as it is
    mask = torch.zeros(1, 1, *content.shape[2:])
    mask[..., :width] = 1

    def style_loss(style: Tensor, **parts: Any) -> float:
        return next(iter(make((style,), **options).steps(content, **parts))).losses["style"]

    both = style_loss(b, regions=[Region(mask, a)])
    inside, outside, share = style_loss(a, mask=mask), style_loss(b, mask=1 - mask), width / 128
    assert both == pytest.approx(share * inside + (1 - share) * outside, rel=1e-4)


def test_a_region_without_area_is_left_out(pictures: tuple[Tensor, Tensor, Tensor], make: Make) -> None:
    content, a, b = pictures
    options: dict[str, Any] = {"size": 64, "coarsest": 64, "iterations": 3}
    plain = make((b,), **options)(content)
    nowhere = make((b,), **options)(content, [Region(torch.zeros(1, 1, 8, 12), a)])
    torch.testing.assert_close(nowhere, plain, rtol=0, atol=2e-3)


def test_the_palette_of_a_regions_style_is_matched_too(
    pictures: tuple[Tensor, Tensor, Tensor], left: Tensor, make: Make, measure: Any
) -> None:
    content, a, b = pictures
    plain, matched = (
        make((b,), **BRIEF, match_palette=m)(content, [Region(left, a)])[..., :60] for m in ("none", "covariance")
    )
    assert measure.palette(matched, content) < 0.7 * measure.palette(plain, content)


def test_regions_and_kept_colours(pictures: tuple[Tensor, Tensor, Tensor], left: Tensor) -> None:
    content, a, b = pictures
    region = resolve_region(left[0, 0].numpy(), a)
    brief = {**BRIEF, "iterations": 6, "precision": "float32", "keep_colours": 1.0}
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
