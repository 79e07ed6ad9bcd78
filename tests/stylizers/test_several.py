"""`stylize_many` returns the paintings of `stylize` in order, with errors in their places, and ends its threads."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import impasto
from impasto.errors import ImpastoError, OptionError, PictureError
from impasto.stylizers import several
from impasto.stylizers.protocol import Step

QUICK: dict[str, Any] = {"size": 48, "iterations": 2, "coarsest": 48, "precision": "float32"}
TWO = ["cpu", "cpu"]


@pytest.fixture
def photos(photo: Callable[[str, int], Tensor]) -> list[Tensor]:
    return [photo(name, 64) for name in ("coffee", "rocket", "astronaut", "chelsea", "coffee")]


@pytest.fixture
def style(photo: Callable[[str, int], Tensor]) -> Tensor:
    return photo("chelsea", 64)


def workers() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name.startswith("impasto")]


class Slow:
    """A stylizer that paints a photograph's negative in slow steps, or in one step if it is black."""

    def __init__(self, steps: int = 3, seconds: float = 0.0):
        self.count, self.seconds = steps, seconds
        self.done = 0

    def __call__(self, content: Tensor, regions: Any = (), mask: Any = None) -> Tensor:
        return 1 - content

    def steps(self, content: Tensor, regions: Any = (), mask: Any = None, state: Any = None) -> Iterator[Step]:
        if content.shape[-1] == 13:
            raise ZeroDivisionError("a bug")
        count = self.count if content.any() else 1
        for i in range(1, count + 1):
            time.sleep(self.seconds)
            self.done += 1
            yield Step((1, 1), 1, 1, i, count, {"total": 0.0}, 1 - content)


def test_two_devices_paint_what_one_call_after_the_other_does(photos: list[Tensor], style: Tensor) -> None:
    expected = [impasto.stylize(p, style, **QUICK) for p in photos]
    found = list(impasto.stylize_many(photos, style, devices=TWO, **QUICK))
    assert len(found) == len(photos)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert not torch.equal(found[0], found[1])
    assert not workers()


def test_every_device_takes_part_and_order_is_kept(monkeypatch: pytest.MonkeyPatch, style: Tensor) -> None:
    """The first device is slow, so the others overtake it, but their paintings wait for their turn."""
    made = [Slow(seconds=0.05), Slow(), Slow()]
    spare = iter(made)
    monkeypatch.setattr(several, "choose_stylizer", lambda *_: next(spare))
    photos = [torch.full((1, 3, 2, 2), i / 32) for i in range(12)]
    found = list(several.stylize_many(iter(photos), style, devices=["a", "b", "c"]))
    assert [round(32 * (1 - f.mean().item())) for f in found] == list(range(12))
    assert sum(s.done for s in made) == 3 * 11 + 1
    assert 0 < made[0].done < 3 * 12 / 3


def test_an_error_stands_in_its_place(photos: list[Tensor], style: Tensor, tmp_path: Any) -> None:
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "good.png")
    contents = [tmp_path / "good.png", tmp_path / "none.png", photos[0] * 3, photos[0][..., :1], photos[0]]
    found = list(impasto.stylize_many(contents, style, devices=TWO, **QUICK))
    assert isinstance(found[0], Image.Image)
    assert isinstance(found[1], PictureError)
    assert "none.png" in str(found[1])
    assert isinstance(found[2], OptionError)
    assert isinstance(found[3], ImpastoError)  # too narrow for the encoder
    assert torch.equal(found[4], impasto.stylize(photos[0], style, **QUICK))


def test_what_is_no_error_of_ours_is_raised(monkeypatch: pytest.MonkeyPatch, style: Tensor) -> None:
    monkeypatch.setattr(several, "choose_stylizer", lambda *_: Slow())
    paintings = several.stylize_many([torch.zeros(1, 3, 2, w) for w in (2, 13, 3)], style, devices=TWO)
    assert next(paintings).shape[-1] == 2
    with pytest.raises(ZeroDivisionError):
        next(paintings)
    assert not workers()


def test_so_does_what_the_list_of_photographs_raises(monkeypatch: pytest.MonkeyPatch, style: Tensor) -> None:
    monkeypatch.setattr(several, "choose_stylizer", lambda *_: Slow())

    def contents() -> Iterator[Tensor]:
        yield torch.zeros(1, 3, 2, 2)
        raise OSError("the folder is gone")

    with pytest.raises(OSError, match="the folder is gone"):
        list(several.stylize_many(contents(), style, devices=TWO))
    assert not workers()


def test_closing_it_early_ends_the_threads(monkeypatch: pytest.MonkeyPatch, style: Tensor) -> None:
    made = [Slow(steps=1000, seconds=0.01), Slow(steps=1000, seconds=0.01)]
    spare = iter(made)
    monkeypatch.setattr(several, "choose_stylizer", lambda *_: next(spare))
    taken: list[int] = []

    def contents() -> Iterator[Tensor]:
        for i in range(100):
            taken.append(i)
            yield torch.full((1, 3, 2, 2), i / 100)

    paintings = several.stylize_many(contents(), style, devices=TWO)
    assert not workers()  # nothing begins before somebody asks
    assert next(paintings).mean().item() == 1  # the first photograph, which takes one step
    assert len(workers()) == 2
    paintings.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert not workers()
    assert sum(s.done for s in made) < 100
    assert len(taken) == several.AHEAD * 2  # and no more photographs are asked for than are painted ahead


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert several.available_devices("cpu") == ["cpu"]
    assert several.available_devices("cuda:1") == ["cuda:1"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    for device in ("auto", "cuda"):
        assert several.available_devices(device) == ["cuda:0", "cuda:1", "cuda:2"]
    assert several.available_devices("cuda:1") == ["cuda:1"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert several.available_devices("auto") == ["auto"]


def test_wrong_usage_is_told_at_once(photos: list[Tensor], style: Tensor) -> None:
    wrong: list[tuple[Any, Any, str]] = [
        (("photo.png", style), {}, "contents is the one path photo.png; give a list"),
        ((photos, style), {"devices": "cpu"}, "devices is 'cpu'; give a list of names"),
        ((photos, style), {"devices": []}, "devices is \\[\\]"),
        ((photos, style), {"devices": ["abacus"]}, "--device abacus is not available here"),
        ((photos, style), {"brushes": 3}, "there is no option 'brushes'"),
        ((photos, "no-such-style"), {}, "neither a file nor a built-in style"),
    ]
    for arguments, options, message in wrong:
        with pytest.raises(ImpastoError, match=message):
            impasto.stylize_many(*arguments, **options)
