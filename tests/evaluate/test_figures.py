"""The figures of a painting lie between those of its photograph and its style."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch import Tensor

from impasto.evaluate.figures import FIGURES, Evaluation, Evaluator
from impasto.evaluate.pairs import Triple
from impasto.image.picture import Picture
from impasto.image.write import write_image
from impasto.options import FigureName
from impasto.tools.metrics import Judge, load_judge

Photo = Callable[[str, int], Tensor]


@pytest.fixture(scope="module")
def evaluation(photo: Photo, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Evaluate a cross-fade of one fifth cup and four fifths cat, with visible noise."""
    folder, g = tmp_path_factory.mktemp("pictures"), torch.Generator().manual_seed(0)
    content, style = photo("coffee", 96), photo("chelsea", 96)
    style = style[..., : content.shape[-2], : content.shape[-1]]
    mixed = torch.lerp(content[..., : style.shape[-2], :], style, 0.6)
    mixed = (mixed + 0.15 * torch.randn(mixed.shape, generator=g)).clamp(0, 1)
    paths = [folder / f"{i}.png" for i in range(3)]
    for path, picture in zip(paths, (content[..., : style.shape[-2], :], style, mixed), strict=True):
        write_image(Picture(picture), path)
    return Evaluator(Judge(load_judge().encoder, long_side=96)).evaluate(Triple(*paths))


def test_every_figure_can_sort() -> None:
    assert tuple(FIGURES) == get_args(FigureName)


def test_lpips_only_with_its_weights(evaluation: Evaluation) -> None:
    assert set(evaluation.result) == set(FIGURES) - {"lpips"}


def test_the_photograph_keeps_the_content(evaluation: Evaluation) -> None:
    f = evaluation.photo
    assert (f["content"], f["palette_photo"]) == (0, 0)
    assert (f["ssim"], f["ms_ssim"]) == pytest.approx((1, 1), abs=1e-9)


def test_the_style_meets_the_style(evaluation: Evaluation) -> None:
    f = evaluation.style
    assert (f["gram"], f["cov"], f["sliced"], f["palette"]) == (0, 0, 0, 0)
    assert f["sifid"] == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("name", [name for name in FIGURES if name not in ("lpips", "noise", "lattice")])
def test_sandwich(evaluation: Evaluation, name: str) -> None:
    """Figures of style fall from the photograph to the style, and figures of content get worse."""
    order = [evaluation.photo[name], evaluation.result[name], evaluation.style[name]]
    if name == "content":  # the noise of the result is worse than any other picture
        order[1] = evaluation.recoloured[name]
    if FIGURES[name].to == "photograph" and FIGURES[name].lower:
        order.reverse()
    assert order[0] > order[1] > order[2]


def test_noise_is_seen(evaluation: Evaluation) -> None:
    assert evaluation.result["noise"] > 5 * max(evaluation.photo["noise"], evaluation.style["noise"])


def test_what_is_cached_changes_nothing(photo: Photo, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for path, name in zip(paths, ("coffee", "chelsea"), strict=True):
        write_image(Picture(photo(name, 64)), path)
    evaluator, triple = Evaluator(Judge(load_judge().encoder, long_side=64)), Triple(paths[0], paths[1], paths[0])
    first = evaluator.evaluate(triple)
    assert evaluator.evaluate(triple) == first
    assert first.result == first.photo
