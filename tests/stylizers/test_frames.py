"""Pictures of one size, painted one after the other, equal single paintings, and can be continued."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from impasto.errors import MemoryNeedError, OptionError
from impasto.image.resize import resize
from impasto.options import OptimizeOptions, StylizeOptions
from impasto.style.target import load_builtin
from impasto.stylizers.choose import choose_stylizer, frame_stylizer
from impasto.stylizers.loss import Before

Photo = Callable[[str, int], Tensor]
SIZE = (64, 96)


@pytest.fixture
def frame(photo: Photo) -> Tensor:
    return resize(photo("coffee", 96), SIZE)


def options(**changes: Any) -> OptimizeOptions:
    return OptimizeOptions(scale=1.0, precision="float32", coarsest=48, **changes)


@pytest.mark.parametrize("measured", [False, True], ids=["picture", "style file"])
def test_the_first_frame_is_painted_like_a_picture(frame: Tensor, photo: Photo, measured: bool) -> None:
    style = load_builtin("udnie") if measured else photo("chelsea", 200)
    wanted = choose_stylizer([style], options())(frame)
    start = StylizeOptions(method="network", scale=1.0, precision="float32", underpainting=0.0)
    network = choose_stylizer([style], start)(frame)
    painted = frame_stylizer([style], options(), SIZE).frame(frame, start=network)
    assert (painted - wanted).abs().max() < 1e-4


def test_what_needs_the_styles_picture_is_refused(photo: Photo) -> None:
    """A film's styles are measured once, so there is no picture to search."""
    for changes, name in (({"style_loss": "nn"}, "--style-loss nn"), ({"neighbour_weight": 0.2}, "--neighbour-weight")):
        with pytest.raises(OptionError, match=f"{name} needs the style's picture"):
            frame_stylizer([photo("chelsea", 200)], options(**changes), SIZE)


def test_shares_and_strength(frame: Tensor) -> None:
    """With a share or a strength of 1, only one style counts; a changed stylizer leaves the first one as it was."""
    both = frame_stylizer([load_builtin(n) for n in ("udnie", "starry-night")], options(), SIZE)
    alone = frame_stylizer([load_builtin("starry-night")], options(), SIZE).frame(frame)
    assert torch.equal(both.at(1.0, {1: 1.0}).frame(frame), alone)
    assert (both.at(0.3).frame(frame) - frame).abs().mean() < (alone - frame).abs().mean()
    assert (len(both.styles), both.options.strength) == (2, 1.0)


def test_a_painting_is_continued_where_it_holds(frame: Tensor) -> None:
    """With a large weight, the left keeps the previous painting, and the right is painted from the given start."""
    stylizer = frame_stylizer([load_builtin("udnie")], options(), SIZE)
    before = stylizer.frame(frame)
    trust = torch.zeros(1, 1, *SIZE)
    trust[..., :48] = 1
    start = torch.lerp(frame, before, trust)
    found = stylizer.frame(frame, Before(before, trust, start, 1e4))
    assert (found - before)[..., :48].abs().mean() < 0.005
    assert (found - frame)[..., 48:].abs().mean() > 0.02


def test_refusals() -> None:
    with pytest.raises(OptionError, match="too small for the encoder"):
        frame_stylizer([load_builtin("udnie")], options(), (16, 96))
    with pytest.raises(MemoryNeedError):
        frame_stylizer([load_builtin("udnie")], options(max_memory=10**6), SIZE)
