"""Inside `torch.no_grad` and `torch.inference_mode`, everything paints as it does outside."""

import io
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import impasto
from impasto.models.weights import load_encoder

BRIEF: dict[str, Any] = {"size": 48, "iterations": 3, "coarsest": 48, "device": "cpu"}
Mode = Callable[[], AbstractContextManager[object]]


@pytest.fixture(params=[torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
def mode(request: pytest.FixtureRequest) -> Mode:
    return request.param


def pictures() -> tuple[Tensor, Tensor, Tensor]:
    """Return a photograph, a style and a mask, made in the current mode."""
    g = torch.Generator().manual_seed(0)
    return torch.rand(1, 3, 48, 48, generator=g), torch.rand(1, 3, 64, 64, generator=g), torch.ones(1, 1, 48, 48)


def equal(mode: Mode, make: Callable[[], Any]) -> None:
    """Check that what is made inside equals what is made outside."""
    expected = make()
    with mode():
        found = make()
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
        assert not torch.is_grad_enabled()
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"quality": "draft", "iterations": None},
        {"optimizer": "adam", "parameters": "pixels", "carry": True, "average": 0.5},
        {"optimizer": "adam"},
        {"style_loss": "moments:1,nn:0.5", "histogram_weight": 1.0, "match_palette": "covariance", "strength": 0.8},
        {"laplacian_weight": 1.0, "similarity_weight": 1.0, "keep_colours": 0.5},
        {"preset": "gatys", "size": 64, "coarsest": 128},
    ],
    ids=str,
)
def test_a_painting(mode: Mode, options: dict[str, Any]) -> None:
    equal(mode, lambda: impasto.stylize(*pictures()[:2], **{**BRIEF, **options}))


def test_a_painting_in_one_pass(mode: Mode) -> None:
    equal(mode, lambda: impasto.stylize(*pictures()[:2], quality="instant", size=48))


def test_masks_and_regions(mode: Mode) -> None:
    def make() -> Tensor:
        photo, style, mask = pictures()
        mask[..., :16] = 0
        return impasto.stylize(photo, style, regions=[(mask, style.flip(3))], mask=mask, mask_feather=0, **BRIEF)

    equal(mode, make)


def test_pictures_of_our_own_kind(mode: Mode) -> None:
    def make() -> Tensor:
        photo, style, _ = (impasto.Picture(x.expand(1, 3, -1, -1)) for x in pictures())
        return impasto.stylize(photo, style, **BRIEF).tensor

    equal(mode, make)


def test_a_texture(mode: Mode) -> None:
    equal(mode, lambda: torch.tensor(np.asarray(impasto.texture(pictures()[1], (48, 48), True, iterations=3))))


@pytest.mark.parametrize("style", ["picture", "udnie"])
def test_learning(mode: Mode, style: str) -> None:
    def make() -> Tensor:
        source = pictures()[1] if style == "picture" else style
        return impasto.learn(source, steps=2, seconds=1000, batch=1, crop=64, device="cpu").learnt  # type: ignore[return-value]

    equal(mode, make)


def test_many(mode: Mode) -> None:
    def make() -> Tensor:
        photo, style, _ = pictures()
        return torch.cat(list(impasto.stylize_many([photo, photo.flip(3)], style, **BRIEF)))

    equal(mode, make)


@pytest.mark.parametrize(
    "options", [{}, {"optimizer": "adam", "average": 0.5}, {"preset": "gatys", "size": 64, "coarsest": 128}], ids=str
)
def test_a_stylizer_step_by_step(mode: Mode, options: dict[str, Any]) -> None:
    """The caller's mode holds between the steps, and a state saved there can be continued."""

    def make() -> Tensor:
        photo, style, _ = pictures()
        stylizer, saved, image = impasto.load_stylizer(style, **{**BRIEF, **options}), io.BytesIO(), photo
        inside = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        for step in stylizer.steps(photo):
            assert (torch.is_grad_enabled(), torch.is_inference_mode_enabled()) == inside
            assert step.state is not None
            assert step.measured is not None
            assert step.measured()["total"] > 0
            if step.iteration == 1:
                torch.save(step.state(), saved)
            image = step.image
        saved.seek(0)
        *_, last = stylizer.steps(photo, state=torch.load(saved))
        assert torch.equal(last.image, image)
        return image

    equal(mode, make)


def test_what_is_made_inside_is_of_use_outside(mode: Mode) -> None:
    photo, style, _ = pictures()
    expected = impasto.stylize(photo, style, **BRIEF)
    with mode():
        stylizer, encoder = impasto.load_stylizer(pictures()[1], **BRIEF), load_encoder()
        target = impasto.StyleTarget.of(pictures()[1], encoder, stylizer.compute)
        network = impasto.load_stylizer(pictures()[1], quality="instant", size=48)
        quick = network(pictures()[0])
    assert torch.equal(stylizer(photo), expected)
    assert torch.equal(network(photo), quick)
    assert impasto.stylize(photo, target, **BRIEF).shape == photo.shape
    assert impasto.learn(target, steps=1, batch=1, crop=64).learnt is not None


@pytest.mark.parametrize(
    "mode",
    [pytest.param(torch.no_grad, marks=pytest.mark.slow), torch.inference_mode],
    ids=["no_grad", "inference_mode"],
)
def test_imported_there(mode: Mode) -> None:
    """Values that a process caches for good may be made inside a mode, on first use."""
    program = f"""
import torch
with torch.{mode.__name__}():
    import impasto
    impasto.stylize(torch.rand(3, 48, 48), "udnie", quality="instant")
    impasto.learn("udnie", steps=1, batch=1, crop=64)
impasto.learn("udnie", steps=1, batch=1, crop=64)
impasto.stylize(torch.rand(3, 48, 48), "udnie", size=48, iterations=1)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
