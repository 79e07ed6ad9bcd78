"""Cut-outs that look the same are painted the same, as photographs and as styles."""

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
from impasto.device import Compute
from impasto.image.picture import over_white
from impasto.image.read import read_image
from impasto.models.weights import load_encoder
from impasto.style.target import StyleTarget

Photo = Callable[[str, int], Tensor]
WAYS: dict[str, dict[str, Any]] = {
    "network": {"quality": "instant"},
    "network, half strength": {"quality": "instant", "strength": 0.5},
    "kept colours": {"quality": "instant", "keep_colours": 1.0},
    "draft": {"quality": "draft", "iterations": 2},
    "optimise": {"iterations": 3, "coarsest": 48},
    "every term": {
        "iterations": 3,
        "style_loss": "moments:1,nn:1",
        "histogram_weight": 0.1,
        "laplacian_weight": 0.1,
        "similarity_weight": 0.1,
        "match_palette": "covariance",
    },
    "gatys": {"preset": "gatys", "encoder": "compact", "iterations": 2},
}


def cutout(photo: Tensor, hidden: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return (H, W, 4): the photograph inside an ellipse with a hard edge, and a grey level where it is transparent."""
    levels = (photo[0].permute(1, 2, 0) * 255).round().byte().numpy()
    height, width = levels.shape[:2]
    y, x = np.mgrid[:height, :width]
    shown = (2 * (x + 0.5) / width - 1) ** 2 + (2 * (y + 0.5) / height - 1) ** 2 < 0.6
    return np.dstack([np.where(shown[..., None], levels, hidden), 255 * shown]).astype(np.uint8)


@pytest.mark.parametrize("way", WAYS)
def test_what_hides_under_transparency_has_no_say(photo: Photo, way: str) -> None:
    content, style = photo("chelsea", 128), photo("coffee", 96)
    options = {"size": 64, "precision": "float32", **WAYS[way]}

    def paint(hidden: int, hidden_in_style: int) -> Any:
        return impasto.stylize(cutout(content, hidden), Image.fromarray(cutout(style, hidden_in_style)), **options)

    black, white = paint(0, 0), paint(255, 230)
    assert np.array_equal(black[..., 3], white[..., 3])
    difference = np.abs(black.astype(int) - white)[black[..., 3] > 0]
    assert difference.max() == 0


def test_a_style_is_measured_where_it_is_visible(photo: Photo) -> None:
    """A style next to a transparent area has the statistics of the style alone, except at the border."""
    style = photo("coffee", 128)
    beside = torch.cat([style, torch.rand(style.shape)], 3)
    alpha = torch.cat([torch.ones_like(style[:, :1]), torch.zeros_like(style[:, :1])], 3)
    encoder, compute = load_encoder("compact"), Compute(torch.device("cpu"), None)

    def moments(picture: Tensor, size: int) -> Tensor:
        return StyleTarget.of(picture, encoder, compute, (size,)).moments[size]["relu2_1"]

    alone, whole = moments(style, 128), moments(beside, 256)
    half = moments(torch.cat([beside, alpha], 1), 256)
    assert (half - alone).norm() < 0.1 * (whole - alone).norm()


@pytest.mark.parametrize("quality", ["instant", "good"])
def test_the_visible_part_is_painted_as_if_alone(photo: Photo, measure: Any, quality: str) -> None:
    """A photograph next to an invisible half takes on the style like one without it."""
    content, style = photo("chelsea", 96), photo("coffee", 128)
    beside = torch.cat([content, torch.zeros_like(content)], 3)[0].permute(1, 2, 0).numpy()
    alpha = np.zeros(beside.shape[:2], np.float32)
    alpha[:, :96] = 1
    options: dict[str, Any] = {"quality": quality, "precision": "float32"}
    options |= {} if quality == "instant" else {"iterations": 20, "coarsest": 96}
    alone = impasto.stylize(content, style, size=96, **options)
    painted = impasto.stylize(np.dstack([beside, alpha]), style, size=192, **options)
    half = torch.from_numpy(painted[:, :96, :3]).permute(2, 0, 1)[None]
    found, wanted, plain = (measure.style(p, style, size=96) for p in (half, alone, content))
    assert found < 1.3 * wanted + 0.05 * plain


def test_no_rim_over_white(photo: Photo) -> None:
    """At strength 0 the reduced cut-out, composited over white, equals the reduced photograph over white."""
    content = photo("chelsea", 192)
    for hidden in (0, 255):
        given = Image.fromarray(cutout(content, hidden))
        painted = impasto.stylize(given, "udnie", size=96, strength=0, iterations=1, coarsest=96, rate=1e-4)
        assert painted.mode == "RGBA"
        found = np.asarray(Image.alpha_composite(Image.new("RGBA", painted.size, "white"), painted).convert("RGB"))
        white = Image.alpha_composite(Image.new("RGBA", given.size, "white"), given).convert("RGB")
        wanted = np.asarray(white.resize(painted.size, Image.Resampling.BICUBIC))
        assert np.abs(found.astype(int) - wanted).max() <= 20


def test_on_the_command_line(photo: Photo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = photo("chelsea", 128)
    brief = ["--size", "64", "--quality", "instant", "--precision", "float32"]
    for hidden in (0, 255):
        Image.fromarray(cutout(content, hidden)).save(f"{hidden}.png")
        assert main(["stylize", f"{hidden}.png", "udnie", "-o", f"out-{hidden}.png", *brief]) == 0
    one, other = (read_image(f"out-{hidden}.png") for hidden in (0, 255))
    assert one.alpha is not None
    assert torch.equal(over_white(one.pixels), over_white(other.pixels))


def test_nothing_to_be_seen(photo: Photo) -> None:
    hidden = cutout(photo("chelsea", 128), 0)
    hidden[..., 3] = 0
    for content, style in ((hidden, "udnie"), (photo("chelsea", 128), Image.fromarray(hidden))):
        with pytest.raises(impasto.PictureError, match="transparent everywhere; give a picture with visible pixels"):
            impasto.stylize(content, style, size=64, quality="instant")
