"""The network gives the same result on rows as on the whole picture, and sees nothing beyond its margin."""

from collections.abc import Callable
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from impasto.errors import MemoryNeedError, PictureError
from impasto.files import TemporaryFiles
from impasto.models.network import Network, NetworkConfig
from impasto.models.passes import padded
from impasto.models.rows import FileStore, KeptStore, Masks, MemoryStore, RowPass, Store, Summary

LAYERS = {"relu1_1": 4, "relu2_1": 5}
SHAPES: list[dict[str, Any]] = [
    {},
    {"blocks": 0, "fine": 0},
    {"blocks": 3, "fine": 0, "rank": 0},
    {"noise": 0},
]


def network(**shape: Any) -> Network:
    net = Network(NetworkConfig("digest", LAYERS, **{"width": 4, "blocks": 1, "fine": 1, "hidden": 8, **shape}))
    generator = torch.Generator().manual_seed(0)
    net.initialise(generator)
    for mixing in net.noises:
        mixing.data.normal_(0, 0.3, generator=generator)
    return net.eval().requires_grad_(False)


def affines(net: Network, count: int) -> Tensor:
    g = torch.Generator().manual_seed(1)
    affine = 0.5 * torch.randn(count, net.layout.size, generator=g)
    affine[:, net.layout.parts["scale"]] += 1
    affine[:, net.layout.parts["paint"]] = 1
    return affine


def picture(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(2))


def rows_of(net: Network, x: Tensor, strip: int, affine: Tensor, statistics: Tensor | None, **rest: Any) -> Tensor:
    store: Callable[[], Store] = rest.pop("store", MemoryStore)
    masks: Tensor | None = rest.pop("masks", None)
    kept = None if masks is None else Masks(store)

    def image() -> Any:
        for i, rows in enumerate(x.split(strip, 2)):
            if kept is not None and masks is not None:
                kept.append(masks.split(strip, 2)[i])
            yield rows

    net_rows = RowPass(net, affine, statistics, kept, store, strip, **rest)
    return torch.cat([r for r in net_rows.paint(image()) if r is not None], 2)


def new_file() -> FileStore:
    return FileStore(TemporaryFiles("tests", 10**8, "test less"))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("strip", [8, 24, 200])
def test_rows_are_those_of_the_whole(shape: dict[str, Any], strip: int) -> None:
    """Compare with given statistics and with the picture's own, in memory and in files."""
    net, x = network(**shape), picture(88, 48)
    affine = affines(net, 1)
    given = net.statistics(x, affine)
    torch.testing.assert_close(rows_of(net, x, strip, affine, given), net(x, affine, given), rtol=1e-4, atol=1e-4)
    for store in (MemoryStore, new_file):
        own = rows_of(net, x, strip, affine, None, store=store)
        torch.testing.assert_close(own, net(x, affine), rtol=1e-4, atol=1e-4)


def test_the_smallest_picture() -> None:
    net, x = network(), padded(picture(3, 5))
    affine = affines(net, 1)
    torch.testing.assert_close(rows_of(net, x, 8, affine, None), net(x, affine), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("store", [MemoryStore, new_file])
def test_regions(store: Callable[[], Store]) -> None:
    net, x = network(), picture(64, 40)
    affine, masks = affines(net, 2), torch.rand(2, 1, 64, 40, generator=torch.Generator().manual_seed(3))
    masks = masks / masks.sum(0)
    masks[0, :, :16], masks[1, :, :16] = 0, 1  # a strip without the first region
    for given in (None, net.statistics(x, affine, masks)):
        found = rows_of(net, x, 16, affine, given, masks=masks, store=store)
        torch.testing.assert_close(found, net(x, affine, given, masks), rtol=1e-4, atol=1e-4)


def test_rows_of_a_part_have_the_wholes_noise() -> None:
    net, x = network(), picture(48, 40)
    affine = affines(net, 1)
    given, origin = net.statistics(x, affine), (16, 24)
    found = rows_of(net, x, 16, affine, given, origin=origin)
    torch.testing.assert_close(found, net(x, affine, given, None, [origin]), rtol=1e-4, atol=1e-4)
    assert (found - rows_of(net, x, 16, affine, given)).abs().max() > 0.01


def test_something_happens_before_the_first_row() -> None:
    """Statistics of the whole picture take time, so the stream yields once for each strip and layer."""
    net, x = network(), picture(64, 32)
    stream = RowPass(net, affines(net, 1), None, None, MemoryStore, 16).paint(iter(x.split(16, 2)))
    turns = 0
    while next(stream) is None:
        turns += 1
    assert turns >= 4 * len(net.layout.norms)


def test_low_precision_in_a_file() -> None:
    store, rows = new_file(), torch.rand(1, 3, 6, 5).bfloat16()
    for part in rows.split(4, 2):
        store.append(part)
    assert torch.equal(store.read(1, 4), rows[:, :, 1:5])
    assert store.read(0, 6).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error names the folder, what is needed, and what to do; also if the folder is missing."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    full = new_file()
    full.file = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115
    with full.file, pytest.raises(MemoryNeedError) as raised:
        full.append(torch.rand(1, 3, 6, 5))
    assert str(raised.value) == (
        f"tests need about 0.1 GB for temporary files, and {tmp_path} cannot take them (No space left on device); "
        "free some space there, or set TMPDIR to a folder on a larger disk, or test less"
    )
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    for use in (new_file, TemporaryFiles("tests", 1).check):
        with pytest.raises(MemoryNeedError, match=r"missing cannot take them \(No such file or directory\); .* TMPDIR"):
            use()
    kept = KeptStore(tmp_path / "kept", 5, torch.device("cpu"), 10**8)
    kept.file = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115
    with (
        kept.file,
        pytest.raises(PictureError, match=r"kept cannot be used \(No space .*: it takes 0.1 GB; .* --run"),
    ):
        kept.append(torch.rand(1, 3, 6, 5))


def test_a_disk_that_takes_only_a_part_at_a_time(tmp_path: Path) -> None:
    class Slow(FileIO):
        def write(self, data: Any) -> int:
            return super().write(memoryview(data)[:7])

        def readinto(self, buffer: Any) -> int:
            return super().readinto(memoryview(buffer)[:5]) or 0

    store, rows = new_file(), torch.rand(1, 3, 6, 5)
    store.file = Slow(tmp_path / "rows", "w+b")  # pyright: ignore[reportAttributeAccessIssue]
    store.append(rows)
    with store.file:
        assert torch.equal(store.read(1, 4), rows[:, :, 1:5])


def test_statistics_of_parts_add_up() -> None:
    """This holds for means much larger than the deviation, too, and for parts that a region does not reach."""
    x, masks = 100 + torch.rand(1, 3, 12, 7), torch.rand(2, 1, 12, 7)
    masks[0, :, :4] = 0
    for m in (None, masks):
        summary = Summary()
        for i, part in enumerate(x.split(4, 2)):
            summary.add(part, None if m is None else m.split(4, 2)[i])
        weights = torch.ones(1, 1, 12, 7) if m is None else m
        share = weights / weights.sum((2, 3), keepdim=True)
        mean = (share * x).sum((2, 3), keepdim=True)
        variance = (share * (x - mean).square()).sum((2, 3))
        found = summary.statistics()
        torch.testing.assert_close(found[:, 0], mean[:, :, 0, 0])
        torch.testing.assert_close(found[:, 1], variance, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_margin_is_what_a_tile_sees(shape: dict[str, Any]) -> None:
    """The inside of a tile depends on no pixel beyond the margin, but on some within the margin's last 8 pixels."""
    net = network(**shape)
    m, affine = net.margin, affines(net, 1)
    assert m % 4 == 0
    x = picture(2 * m + 80, 2 * m + 80)
    given = net.statistics(x, affine)
    x.requires_grad_()
    inside = slice(m + 32, m + 48)
    net(x, affine, given)[..., inside, inside].sum().backward()
    assert x.grad is not None
    seen = x.grad.abs().amax((0, 1))
    for of in (seen, seen.t()):
        assert of[:32].max() == of[-32:].max() == 0
        assert of[32:40].max() > 0
