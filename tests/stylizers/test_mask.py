"""Outside a mask the photograph stays as it is, inside it is painted, and no seam shows between the two."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import impasto
from impasto.cli import main
from impasto.errors import OptionError
from impasto.image.picture import Picture
from impasto.image.read import read_image
from impasto.image.resize import resize
from impasto.image.write import write_image
from impasto.stylizers.optimize import OptimizeStylizer
from impasto.stylizers.protocol import Region
from impasto.stylizers.sources import resolve_mask, resolve_region

Make = Callable[..., OptimizeStylizer]
Photo = Callable[[str, int], Tensor]
BRIEF: dict[str, Any] = {"size": 96, "coarsest": 64, "iterations": 20, "style_loss": "gram", "optimizer": "lbfgs"}
EDGE = 48
"""Where the mask ends, from the left, in pixels."""


def left(height: int, width: int) -> Tensor:
    """Return a mask of that size, white in its left half."""
    mask = torch.zeros(1, 1, height, width)
    mask[..., : width // 2] = 1
    return mask


@pytest.fixture(scope="module")
def masked(make: Make, content: Tensor) -> Callable[..., Tensor]:
    """Return `masked(mask_feather=0.0)`, which paints the left half of the photograph. Each painting is made once."""
    made: dict[float, Tensor] = {}

    def paint(mask_feather: float = 4.0) -> Tensor:
        if mask_feather not in made:
            made[mask_feather] = make(**BRIEF, mask_feather=mask_feather)(content, mask=left(64, 96))
        return made[mask_feather]

    return paint


def test_outside_it_is_the_photograph(masked: Callable[..., Tensor], content: Tensor) -> None:
    """The photograph is kept exactly beyond three deviations of the soft edge; with a hard edge, everywhere outside."""
    for feather in (0.0, 4.0, 8.0):
        reach = EDGE + round(3 * feather)
        assert torch.equal(masked(feather)[..., reach:], content[..., reach:])


def test_inside_it_is_painted(masked: Callable[..., Tensor], content: Tensor, style: Tensor, measure: Any) -> None:
    inside = style_distance(measure, masked(), style)
    assert inside < 0.3 * style_distance(measure, content, style)
    # As well as where all of it is: the photograph beside it does not count.
    assert inside < 1.3 * measure.style(masked(0.0)[..., :EDGE], style, size=96)


def style_distance(measure: Any, picture: Tensor, style: Tensor) -> float:
    """Return the style distance of the left half, well away from the edge."""
    return measure.style(picture[..., : EDGE - 8], style, size=96)


def test_no_seam_shows(masked: Callable[..., Tensor], content: Tensor) -> None:
    """The changes made by the painting jump no more at the edge than between columns inside."""

    def seam(painting: Tensor) -> float:
        added = painting - content
        steps = (added[..., 1:] - added[..., :-1]).abs().mean((0, 1, 2))  # (W - 1,)
        return (steps[EDGE - 5 : EDGE + 4].max() / steps[: EDGE - 12].max()).item()

    assert seam(masked()) < 1
    assert seam(masked(8.0)) < seam(masked())
    assert seam(masked(0.0)) > 1.1  # a hard edge shows


def test_the_feather_is_the_width_of_the_edge(masked: Callable[..., Tensor], content: Tensor) -> None:
    """The test measures how many columns beyond the edge the painting still changes."""
    reach = []
    for feather in (0.0, 4.0, 8.0):
        change = (masked(feather) - content).abs().mean((0, 1, 2))
        reach.append(int((change[EDGE:] > 0.01).sum()))
    assert reach[0] == 0
    assert 2 <= reach[1] <= 8
    assert 1.5 * reach[1] <= reach[2] <= 20


def test_the_feather_is_measured_at_the_paintings_size(make: Make, content: Tensor) -> None:
    """At twice the size, the same edge covers as many pixels, and so half as much of the picture."""
    large = make(size=192, coarsest=192, iterations=1, start="grey")(content, mask=left(64, 96))
    change = (large - resize(content, (128, 192))).abs().amax((0, 1, 2))
    assert change[: 96 - 12].min() > 0
    assert change[96 + 14 :].max() == 0


def test_a_mask_of_another_size(make: Make, masked: Callable[..., Tensor], content: Tensor, measure: Any) -> None:
    """It is resized to the painting's size, exactly or as nearly as its own pixels allow."""
    double = make(**BRIEF)(content, mask=left(128, 192))
    other = make(**BRIEF)(content, mask=left(20, 30))
    assert measure.difference(double, masked()) < 0.03
    assert measure.difference(other, masked()) < 0.4 * measure.difference(content, masked())
    assert torch.equal(other[..., EDGE + 16 :], content[..., EDGE + 16 :])


def test_a_white_mask_is_none(make: Make, content: Tensor) -> None:
    """The painting is the same up to rounding, which so few iterations do not amplify."""
    options: dict[str, Any] = {"size": 96, "coarsest": 96, "iterations": 2, "optimizer": "lbfgs"}
    whole = make(**options)(content)
    white = make(**options)(content, mask=torch.ones(1, 1, 20, 30))
    torch.testing.assert_close(white, whole, rtol=0, atol=2e-3)


def test_grey_is_painted_so_much(make: Make, content: Tensor) -> None:
    """Where the mask is one half, the picture is halfway between the photograph and the painting."""
    grey = torch.full((1, 1, 64, 96), 0.5)
    painting = make(size=96, coarsest=96, iterations=4, start="grey", mask_feather=0.0)(content, mask=grey)
    assert (painting - content / 2).min() >= -1e-6
    assert (painting - content / 2).max() <= 0.5 + 1e-6
    assert (painting - content).abs().mean() > 0.05


def test_nothing_to_paint_is_an_error(make: Make, content: Tensor) -> None:
    with pytest.raises(OptionError, match="--mask is black everywhere, so nothing would be painted"):
        make(**BRIEF).steps(content, mask=torch.zeros(1, 1, 8, 12))


def test_a_mask_and_regions(make: Make, photo: Photo, measure: Any) -> None:
    """The upper half is painted, its left in one style and its right in another; the lower half stays as it is."""
    content, a, b = photo("chelsea", 96), photo("coffee", 128), photo("rocket", 128)
    upper = torch.zeros(1, 1, 64, 96)
    upper[..., :40, :] = 1
    painting = make((b,), **BRIEF)(content, [Region(left(40, 60), a)], upper)
    swapped = make((a,), **BRIEF)(content, [Region(left(40, 60), b)], upper)
    assert torch.equal(painting[..., 52:, :], content[..., 52:, :])
    for columns, own in ((slice(0, 44), a), (slice(52, 96), b)):
        found = [measure.style(p[..., :36, columns], own, size=96) for p in (painting, swapped, content)]
        assert found[0] < 0.8 * found[1]
        assert found[0] < 0.8 * found[2]


def test_a_region_that_is_not_painted_has_no_say(make: Make, content: Tensor, photo: Photo) -> None:
    options: dict[str, Any] = {"size": 96, "coarsest": 64, "iterations": 3}
    mask = left(64, 96)
    outside = Region(torch.cat([torch.zeros(1, 1, 64, 80), torch.ones(1, 1, 64, 16)], 3), photo("rocket", 64))
    alone, both = make(**options)(content, mask=mask), make(**options)(content, [outside], mask)
    torch.testing.assert_close(both, alone, rtol=0, atol=1e-3)


@pytest.mark.parametrize("style_loss", ["moments", "nn"])
def test_every_style_loss_keeps_to_the_mask(
    make: Make, content: Tensor, style: Tensor, measure: Any, style_loss: str
) -> None:
    options: dict[str, Any] = {**BRIEF, "style_loss": style_loss, "histogram_weight": 0.1, "laplacian_weight": 0.1}
    painting = make(**options)(content, mask=left(64, 96))
    assert torch.equal(painting[..., EDGE + 12 :], content[..., EDGE + 12 :])
    assert style_distance(measure, painting, style) < 0.5 * style_distance(measure, content, style)


def test_any_kind_of_picture_is_a_mask(content: Tensor, style: Tensor) -> None:
    """The library's call accepts a tensor and an array of another size and resizes them."""
    options: dict[str, Any] = {"size": 48, "iterations": 3, "precision": "float32", "mask_feather": 1.0}
    mask = left(64, 96)
    by_tensor = impasto.stylize(content, style, mask=mask, **options)
    by_array = impasto.stylize(content, style, mask=(mask[0, 0].numpy() * 255).astype("uint8"), **options)
    assert torch.equal(by_tensor, by_array)
    assert torch.equal(by_tensor[..., 28:], resize(content, (32, 48))[..., 28:])
    assert not torch.equal(by_tensor[..., :24], resize(content, (32, 48))[..., :24])


def test_kept_colours_leave_the_rest_alone(content: Tensor, style: Tensor) -> None:
    """The photograph in its own colours is the photograph, up to rounding."""
    options: dict[str, Any] = {"size": 96, "iterations": 3, "precision": "float32", "keep_colours": 1.0}
    painting = impasto.stylize(content, style, mask=left(64, 96), **options)
    torch.testing.assert_close(painting[..., EDGE + 12 :], content[..., EDGE + 12 :], rtol=0, atol=2e-3)


def test_the_preset_gatys_has_none(content: Tensor, style: Tensor) -> None:
    with pytest.raises(OptionError, match="gatys has no regions and no mask"):
        impasto.stylize(content, style, mask=left(64, 96), preset="gatys", encoder="compact", iterations=1)


def as_written() -> dict[str, Any]:
    """Return the same mask, white in its left half of 60 x 40 pixels, in every form in which programs save masks."""
    half = np.zeros((40, 60), np.uint8)
    half[:, :30] = 255
    colours = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    tensor = torch.from_numpy(half) > 0
    return {
        "white on black": half,
        "an alpha over a photograph (rembg)": np.dstack([colours, half]),
        "black painted on nothing (GIMP)": np.dstack([np.zeros_like(half), half]),
        "an image's alpha": Image.fromarray(np.dstack([colours, half])),
        "an opaque alpha": np.dstack([half, half, half, np.full_like(half, 255)]),
        "booleans": half > 0,
        "0 and 1": half // 255,
        "0 and 1 in 16 bits": half.astype(np.uint16) // 255,
        "0 and 1 in an image": Image.fromarray(half // 255),
        "one bit": Image.fromarray(half).convert("1"),
        "floats": half / 255,
        "a tensor of booleans": tensor,
        "a tensor of booleans with a channel": tensor[None],
        "a tensor of 0 and 1": tensor.to(torch.uint8),
        "a tensor of floats": tensor[None, None].float(),
    }


@pytest.mark.parametrize("way", as_written())
def test_a_mask_is_read_as_it_was_meant(way: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        found = resolve_mask(as_written()[way])
    assert torch.equal(found, left(40, 60))
    said = {
        "alpha": "using its transparency as the mask",
        "GIMP": "using its transparency as the mask",
        "0 and 1": "taking 1 as white",
    }
    expected = [v for k, v in said.items() if k in way and "opaque" not in way]
    assert len(caplog.messages) == len(expected)
    assert all(e in m for e, m in zip(expected, caplog.messages, strict=True))
    assert torch.equal(resolve_region(as_written()[way], torch.rand(1, 3, 8, 8)).mask, found)


@pytest.mark.parametrize("top", [2, 20])
def test_a_picture_of_labels_is_no_mask(top: int) -> None:
    labels = np.full((40, 60), top, np.uint8)
    with pytest.raises(OptionError, match=r"the mask is nowhere brighter than .* %.*make the part to paint white"):
        resolve_mask(labels)


def test_a_mask_of_other_proportions_is_refused(make: Make, content: Tensor, style: Tensor) -> None:
    """A mask that is rotated or square would be stretched, so it is refused."""
    for height, width in ((96, 64), (60, 60), (64, 100)):
        with pytest.raises(OptionError, match=r"the mask is .* times as wide as high, the photograph 1\.5 times; give"):
            make(**BRIEF).steps(content, mask=left(height, width))
        with pytest.raises(OptionError, match="the mask of region 2 is"):
            make(**BRIEF).steps(content, [Region(left(64, 96), style), Region(left(height, width), style)])
        with pytest.raises(OptionError, match="the mask is"):
            impasto.stylize(content, style, mask=left(height, width), quality="instant", size=48)
    for height, width in ((32, 48), (33, 49), (640, 961)):
        make(**BRIEF).steps(content, mask=left(height, width))


def test_masks_on_the_command_line(
    content: Tensor, style: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(Picture(content), "photo.png")
    write_image(Picture(style), "style.png")
    whole = (left(64, 96)[0, 0] * 255).byte().numpy()
    Image.fromarray(whole).save("white.png")
    Image.fromarray(np.dstack([np.zeros((64, 96, 3), np.uint8), whole])).save("gimp.png")
    Image.fromarray(whole // 255).save("ones.png")
    Image.fromarray(whole.T).save("turned.png")
    brief = ["stylize", "photo.png", "style.png", "--size", "64", "--iterations", "2", "--precision", "float32"]
    for name in ("white", "gimp", "ones"):
        assert main([*brief, "--mask", f"{name}.png", "-o", f"{name}-out.png"]) == 0
    said = capsys.readouterr().err
    assert "gimp.png: using its transparency as the mask" in said
    assert "ones.png has only the values 0 and 1 of 255; taking 1 as white" in said
    wanted = read_image("white-out.png").tensor
    for name in ("gimp", "ones"):
        assert torch.equal(read_image(f"{name}-out.png").tensor, wanted)
    assert main([*brief, "--mask", "turned.png", "-o", "x.png"]) == 2
    assert "give a mask of the photograph's proportions" in capsys.readouterr().err
    assert not Path("x.png").exists()
