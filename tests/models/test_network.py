"""Tests of the network: what it computes, what its affines mean, its file, and errors about other files."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from impasto.errors import WeightsError
from impasto.models.colours import colour
from impasto.models.layers import EPSILON, fill
from impasto.models.model_file import read_model_file, write_model_file
from impasto.models.moments import raw_moments
from impasto.models.network import Network, NetworkConfig, StyleSummary, load_network, save_network
from impasto.models.passes import LEAST_SIDE, ORIGIN, STRIDE, WholePass, blurred, resized_convolution
from impasto.models.prepare import BORDER, denoised_inside, mottle

LAYERS = {"relu1_1": 4, "relu2_1": 6}
CONFIG = NetworkConfig(
    "0123456789abcdef", LAYERS, width=4, blocks=2, fine=1, rank=2, noise=3, hidden=8, styles=("one", "two")
)


def network(config: NetworkConfig = CONFIG, seed: int = 0) -> Network:
    """Return a network with random weights, none of which is 0."""
    net = Network(config)
    generator = torch.Generator().manual_seed(seed)
    net.initialise(generator)
    net.learnt.data.normal_(0, 0.1, generator=generator)
    net.last.weight.data *= 10
    for mixing in net.noises:
        mixing.data.normal_(0, 0.3, generator=generator)
    assert net.last.bias is not None
    net.last.bias.data.normal_(0, 0.1, generator=generator)
    return net.eval().requires_grad_(False)


def affines(net: Network, *seeds: int) -> Tensor:
    """Return affines of styles that are far apart: those of a new network, plus noise."""
    last = net.predictor[-1]
    assert isinstance(last, nn.Linear)
    noise = [torch.randn(net.layout.size, generator=torch.Generator().manual_seed(100 + s)) for s in seeds]
    return torch.stack([net.complete(last.bias) + 0.3 * n for n in noise])


def picture(height: int, width: int, count: int = 1) -> Tensor:
    x = torch.rand(count, 3, -(-height // 4), -(-width // 4), generator=torch.Generator().manual_seed(7))
    return F.interpolate(x, (height, width), mode="bilinear")


def moments(*seeds: int) -> dict[str, Tensor]:
    def features(seed: int, channels: int) -> Tensor:
        g = torch.Generator().manual_seed(seed)
        return torch.randn(1, channels, 9, 11, generator=g) @ torch.randn(11, 11, generator=g)

    return {k: torch.cat([raw_moments(features(s, c)) for s in seeds]) for k, c in LAYERS.items()}


@pytest.fixture(scope="module")
def net() -> Network:
    return network()


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=2e-5)


# -- what it computes -------------------------------------------------------------------------------------------------


def written_out(net: Network, x: Tensor, affine: Tensor) -> Tensor:
    """Return the result of the network for one picture, written in plain functions.

    The sides must be multiples of the stride, and no larger than the noise.
    """
    parts = {k: affine[0, s] for k, s in net.layout.parts.items()}
    scales, shifts = parts["scale"].split(net.layout.norms), parts["shift"].split(net.layout.norms)
    filters = list(parts["filters"].split([2 * net.config.rank * c for c in net.layout.mixed]))
    norms = iter(zip(scales, shifts, strict=True))

    def convolved(x: Tensor, m: nn.Module, pad: int = 1) -> Tensor:
        assert isinstance(m, nn.Conv2d)
        return F.conv2d(F.pad(x, (pad,) * 4, mode="reflect"), m.weight, m.bias, m.stride)

    def normed(x: Tensor) -> Tensor:
        scale, shift = next(norms)
        return F.instance_norm(x, weight=scale, bias=shift, eps=EPSILON)

    def block(x: Tensor, first: nn.Module, second: nn.Module) -> Tensor:
        y, c = normed(convolved(x, first)).relu(), x.shape[1]
        if filters:
            into, out = filters.pop(0).split(c * net.config.rank)
            y = y + F.conv2d(y, (into.view(c, -1) @ out.view(-1, c)).t()[:, :, None, None])
        return x + normed(convolved(y, second))

    def smoothed(x: Tensor, pad: int) -> Tensor:
        weight = torch.tensor([1.0, 2, 1]).outer(torch.tensor([1.0, 2, 1])) / 16
        kernel = weight.expand(x.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(x, (pad + 1,) * 4, mode="reflect"), kernel, groups=x.shape[1])

    def enlarged(x: Tensor, m: nn.Module) -> Tensor:
        assert isinstance(m, nn.Conv2d)
        x = F.interpolate(smoothed(x, 1), scale_factor=2, mode="bilinear")[:, :, 1:-1, 1:-1]
        return F.conv2d(x, m.weight)

    def noisy(x: Tensor, level: int) -> Tensor:
        amplitudes = parts["noise"].view(2, -1)[level]
        noise = net.noise[level, :, : x.shape[2], : x.shape[3]] * amplitudes[:, None, None]
        return x + torch.einsum("khw,kc->chw", noise, net.noises[level])

    denoise, mottling = parts["prepare"]
    clean, plain = denoised_inside(F.pad(x, (BORDER,) * 4, mode="reflect"))
    x = x + denoise * (clean - x)
    x = x + mottling * mottle(x, *(torch.arange(side).float() for side in x.shape[2:]))
    half = normed(convolved(F.pixel_unshuffle(x, 2), net.down[0])).relu()
    y = noisy(normed(convolved(half, net.down[1])).relu(), 0)
    for i in range(0, len(net.blocks), 2):
        y = block(y, net.blocks[i], net.blocks[i + 1])
    y = noisy(normed(enlarged(y, net.up)) + half * parts["half"][:, None, None], 1)
    for i in range(0, len(net.fine), 2):
        y = block(y, net.fine[i], net.fine[i + 1])
    y = smoothed(F.pixel_shuffle(convolved(y, net.last, 2), 2), 0)
    weight = torch.tensor([1.0, 4, 6, 4, 1]).outer(torch.tensor([1.0, 4, 6, 4, 1])) / 256
    y = torch.lerp(y, F.conv2d(F.pad(y, (2,) * 4, mode="reflect"), weight.expand(3, 1, 5, 5), groups=3), plain)
    assert next(norms, None) is None
    assert not filters
    return y * parts["paint"][:, None, None] + x * parts["photo"][:, None, None]


def test_it_is_what_it_is_written_out(net: Network) -> None:
    """The network equals the plain functions with random affines, so every number of the affine is in its place."""
    x, affine = picture(40, 56), affines(net, 1)
    found, wanted = net(x, affine), written_out(net, x, affine)
    assert found.shape == x.shape
    assert wanted.std() > 0.05
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"rank": 0},
        {"noise": 0},
        {"blocks": 0},
        {"fine": 2},
        {"blocks": 0, "fine": 0, "rank": 0, "noise": 0},
    ],
    ids=str,
)
def test_shapes(changes: dict[str, int]) -> None:
    """Networks without filters, noise or blocks equal the plain functions, too."""
    net = network(replace(CONFIG, **changes))
    assert net.layout.size == net.predict(moments(1)).shape[1]
    assert net.layout.parts["noise"].stop == net.layout.predicted
    x, affine = picture(24, 32), affines(net, 1)
    torch.testing.assert_close(net(x, affine), written_out(net, x, affine), rtol=1e-3, atol=1e-4)


def test_the_layout_covers_an_affine_once(net: Network) -> None:
    covered = [i for s in net.layout.parts.values() for i in range(s.start, s.stop)]
    assert covered == list(range(net.layout.size))
    assert net.channels == sum(net.layout.norms)
    assert len(net.layout.norms) == len(net.convolutions())  # a norm behind each


@pytest.mark.parametrize("size", [(2, 2), (5, 7), (8, 3)], ids=str)
def test_resizing_and_convolving_from_the_small_picture(size: tuple[int, int]) -> None:
    """The result equals PyTorch's bilinear resizing of the padded picture; inside, also that of the picture itself."""
    convolution = nn.Conv2d(5, 3, 3, bias=False)
    x = torch.randn(2, 5, *size, generator=torch.Generator().manual_seed(0))
    found = resized_convolution(F.pad(x, (1, 1, 1, 1)), convolution)
    assert found.shape == (2, 3, 2 * size[0], 2 * size[1])
    padded = F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=2, mode="bilinear")[..., 1:-1, 1:-1]
    torch.testing.assert_close(found, F.conv2d(padded, convolution.weight), rtol=1e-4, atol=1e-5)
    plain = F.conv2d(F.interpolate(x, scale_factor=2, mode="bilinear"), convolution.weight)
    torch.testing.assert_close(found[..., 2:-2, 2:-2], plain[..., 1:-1, 1:-1], rtol=1e-4, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("pad", [0, 1])
def test_a_blur_leaves_ramps_and_takes_the_finest_waves(pad: int) -> None:
    x = torch.stack([torch.arange(8.0).expand(6, 8), torch.tensor([1.0, -1.0]).repeat(4).expand(6, 8)])[None]
    found = blurred(x, pad)
    assert found.shape == (1, 2, 6 + 2 * pad, 8 + 2 * pad)
    torch.testing.assert_close(found[0, 0, :, 1 + pad : 7 + pad], torch.arange(1.0, 7.0).expand(6 + 2 * pad, 6))
    assert found[0, 1].abs().max() < 1e-6
    torch.testing.assert_close(
        blurred(torch.full((1, 1, 4, 4), 0.3), pad), torch.full((1, 1, 4 + 2 * pad, 4 + 2 * pad), 0.3)
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (5, 3), (23, 25), (24, 24), (33, 47), (31, 64)], ids=str)
def test_any_size(net: Network, size: tuple[int, int]) -> None:
    """Pictures are padded by reflection to multiples of the stride, and cropped afterwards."""
    x, affine = picture(*size), affines(net, 1)
    found = net(x, affine)
    assert found.shape == x.shape
    assert found.isfinite().all()
    whole = net(fill(x, STRIDE, LEAST_SIDE), affine)
    assert torch.equal(found, whole[:, :, : size[0], : size[1]])
    assert net(x, affine, net.statistics(x, affine), torch.ones(1, 1, *size)).shape == x.shape


def test_the_memory_format_does_not_matter(net: Network) -> None:
    x, affine = picture(24, 32, 2), affines(net, 1, 2)
    close(net(x.contiguous(memory_format=torch.channels_last), affine), net(x, affine))


def test_a_batch_is_its_pictures_one_by_one(net: Network) -> None:
    x, affine = torch.rand(3, 3, 33, 40), affines(net, 1, 2, 3)
    found = net(x, affine)
    for i in range(3):
        close(found[i : i + 1], net(x[i : i + 1], affine[i : i + 1]))
    statistics = net.statistics(x, affine)
    assert statistics.shape == (3, 2, net.channels)
    close(net(x, affine, statistics), found)
    close(net(x, affine[:1]), torch.cat([net(x[i : i + 1], affine[:1]) for i in range(3)]))


def test_it_has_no_state(net: Network) -> None:
    """A picture is painted the same to the last bit after other pictures, and in other threads."""
    jobs = [(picture(24 + 8 * (i % 3), 32), affines(net, i % 4)) for i in range(12)]
    first = [net(*job) for job in jobs]
    again = [net(*job) for job in reversed(jobs)][::-1]
    with ThreadPoolExecutor(4) as pool:
        threads = list(pool.map(lambda job: net(*job), jobs))
    for a, b, c in zip(first, again, threads, strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_in_bfloat16_it_paints_nearly_the_same(net: Network) -> None:
    x, affine = picture(64, 64), affines(net, 1)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(x, affine)
    assert found.dtype == torch.float32
    assert (found - net(x, affine)).abs().mean() < 0.05 * net(x, affine).std()


def test_gradients_reach_everything() -> None:
    """The weights, the affine and the picture get gradients, with masks, too."""
    net = network().requires_grad_(True)
    for masks in (None, torch.tensor([0.3, 0.7]).view(2, 1, 1, 1).expand(2, 1, 32, 32)):
        net.zero_grad()
        x = picture(32, 32).requires_grad_()
        affine = affines(net, 1, 2)[: 1 if masks is None else 2].requires_grad_()
        found = torch.autograd.grad(net(x, affine, None, masks).square().mean(), [x, affine, *net.convolutions()])
        assert all(g.isfinite().all() and g.abs().max() > 0 for g in found)
        assert ((found[1] != 0).float().mean(1) > 0.9).all()


def test_the_plain_pass_is_exported_as_it_is(net: Network) -> None:
    """`torch.export` captures the forward pass, since no branch depends on the picture and there is no state."""
    given = picture(32, 40), affines(net, 1)
    program = torch.export.export(net, given)
    other = torch.rand(1, 3, 32, 40), affines(net, 2)
    torch.testing.assert_close(program.module()(*other), net(*other))


# -- statistics -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(24, 32), (33, 70)], ids=str)
def test_a_painting_with_its_own_statistics_is_the_same(net: Network, size: tuple[int, int]) -> None:
    x, affine = picture(*size), affines(net, 1)
    statistics = net.statistics(x, affine)
    assert statistics.shape == (1, 2, net.channels)
    assert statistics.dtype == torch.float32
    assert statistics[:, 1].min() >= 0
    close(net(x, affine, statistics), net(x, affine))


def test_strokes_are_added_once_the_noise_is_removed(net: Network) -> None:
    """They are fainter than noise, but stay, and do not change how plain the picture is."""
    x = (0.5 + 0.01 * torch.randn(1, 3, 48, 64, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    strokes = 0.004 * torch.randn(1, 3, 48, 64, generator=torch.Generator().manual_seed(1))

    def prepared(image: Tensor) -> Tensor:
        return WholePass(net, torch.ones(1, net.layout.size), None, None, ORIGIN).denoised(image)

    before, after = prepared(x), prepared(torch.cat([x, strokes], 1))
    torch.testing.assert_close(after[:, :3], before[:, :3] + strokes)
    assert torch.equal(after[:, 3:], before[:, 3:])


def test_other_statistics_are_another_painting(net: Network) -> None:
    x, other, affine = picture(32, 40), torch.rand(1, 3, 32, 40), affines(net, 1)
    given = net.statistics(other, affine)
    found = net(x, affine, given)
    assert (found - net(x, affine)).abs().mean() > 0.01
    # One for all pictures, or one for each.
    both = torch.cat([x, other])
    close(net(both, affine, given), net(both, affine, given.expand(2, -1, -1)))
    close(net(both, affine, given)[:1], found)


def test_a_part_with_the_statistics_of_the_whole_is_a_part_of_the_whole(net: Network) -> None:
    """Away from its borders, a tile is painted like the whole picture."""
    x, affine = picture(64, 320), affines(net, 1)
    whole, given = net(x, affine), net.statistics(x, affine)
    left = net(x[..., :224], affine, given)
    # Two blocks and the way there and back see 96 pixels to each side.
    torch.testing.assert_close(left[..., :112], whole[..., :112], rtol=1e-3, atol=1e-4)
    assert (net(x[..., :224], affine)[..., :112] - whole[..., :112]).abs().mean() > 1e-3
    right = net(x[..., 96:], affine, given, origins=[(0, 96)])
    torch.testing.assert_close(right[..., 112:], whole[..., 208:], rtol=1e-3, atol=1e-4)
    assert (net(x[..., 96:], affine, given)[..., 112:] - whole[..., 208:]).abs().mean() > 1e-3


def test_noise_is_repeated_beyond_its_side(net: Network) -> None:
    x, affine = torch.full((1, 3, 24, 32), 0.5), affines(net, 1)
    assert net(x, affine).std((2, 3)).max() > 1e-3  # a plain picture, and something is painted
    affine[:, net.layout.parts["prepare"]] = 0  # what mottles a picture does not repeat
    torch.testing.assert_close(net(x, affine, origins=[(1024, 2048)]), net(x, affine))
    assert not torch.allclose(net(x, affine, origins=[(1024, 2056)]), net(x, affine))
    silent = affine[:, : net.layout.parts["noise"].start]
    assert Network(replace(CONFIG, noise=0))(x, net.complete(silent)).shape == x.shape


def test_noise_at_half_of_the_size_has_none_of_the_finest_waves(net: Network) -> None:
    """The finest waves would show as a weave. Noise at the smaller size is blurred when it is enlarged."""
    waves = torch.fft.fft2(net.noise[1].double()).abs()
    for finest in (waves[:, net.noise.shape[-1] // 2], waves[:, :, net.noise.shape[-1] // 2]):
        assert finest.max() < 1e-4 * waves.mean()
    assert net.noise[0].std() == pytest.approx(1, rel=0.05)


def test_each_picture_of_a_batch_has_its_own_noise(net: Network) -> None:
    x, affine, origins = picture(24, 32).expand(2, -1, -1, -1), affines(net, 1, 1), [(0, 0), (8, 16)]
    both = net(x, affine, origins=origins)
    for i, origin in enumerate(origins):
        close(both[i], net(x[:1], affine[:1], origins=[origin])[0])


# -- parts of a picture -----------------------------------------------------------------------------------------------


def halves(height: int, width: int, edge: int | None = None) -> Tensor:
    masks = torch.zeros(2, 1, height, width)
    masks[0, :, :, : width // 2 if edge is None else edge] = 1
    masks[1] = 1 - masks[0]
    return masks


@pytest.mark.parametrize("size", [(24, 32), (33, 41)], ids=str)
def test_a_mask_of_one_style_everywhere_is_that_style(net: Network, size: tuple[int, int]) -> None:
    x, affine = picture(*size), affines(net, 1, 2)
    close(net(x, affine[:1], None, torch.ones(1, 1, *size)), net(x, affine[:1]))
    for i in range(2):
        masks = torch.zeros(2, 1, *size)
        masks[i] = 1
        close(net(x, affine, None, masks), net(x, affine[i : i + 1]))


@pytest.mark.parametrize("size", [(24, 32), (33, 41)], ids=str)
def test_parts_of_one_style_with_the_statistics_of_the_whole_are_the_plain_pass(
    net: Network, size: tuple[int, int]
) -> None:
    """This holds for any cut. Parts whose masks overlap everywhere compute the statistics of the whole themselves."""
    x, affine = picture(*size), affines(net, 1)
    both, plain = affine.expand(2, -1), net(x, affine)
    close(net(x, both, net.statistics(x, affine), halves(*size)), plain)
    close(net(x, both, None, torch.full((2, 1, *size), 0.5)), plain)
    close(net(x, both, None, torch.cat([torch.full((1, 1, *size), s) for s in (0.25, 0.75)])), plain)


def test_each_part_is_in_its_own_style(net: Network) -> None:
    """Away from the border between them, each half is painted nearly like a picture of its own."""
    x, affine, masks = picture(48, 320), affines(net, 1, 2), halves(48, 320)
    found = net(x, affine, None, masks)
    own = net.statistics(x, affine, masks)
    assert own.shape == (2, 2, net.channels)
    close(net(x, affine, own, masks), found)
    for i, columns in enumerate((slice(0, 48), slice(272, 320))):
        alone = net(x, affine[i : i + 1], own[i : i + 1])  # the whole picture in that style, seen as that part
        other = net(x, affine[1 - i : 2 - i], own[1 - i : 2 - i])
        torch.testing.assert_close(found[..., columns], alone[..., columns], rtol=1e-3, atol=1e-4)
        assert (found - other)[..., columns].abs().mean() > 0.05


def test_a_part_without_area_does_no_harm(net: Network) -> None:
    x, affine = picture(32, 32), affines(net, 1, 2, 3)
    masks = torch.cat([halves(32, 32), torch.zeros(1, 1, 32, 32)])
    found = net(x, affine, None, masks)
    assert found.isfinite().all()
    close(found, net(x, affine[:2], None, masks[:2]))


# -- affines ----------------------------------------------------------------------------------------------------------


def test_unpainted_is_the_photograph_to_the_last_bit(net: Network) -> None:
    x, affine = picture(33, 40, 2), affines(net, 1, 2)
    before = affine.clone()
    nothing = net.unpainted(affine)
    assert torch.equal(net(x, nothing), x)
    assert torch.equal(affine, before)
    parts = net.layout.parts
    same = torch.ones(net.layout.size, dtype=torch.bool)
    same[parts["photo"]] = same[parts["paint"]] = same[parts["prepare"]] = False
    assert torch.equal(nothing[:, same], affine[:, same])
    assert int((~same).sum()) == 8


def test_from_the_photograph_to_the_style(net: Network) -> None:
    x, affine = picture(32, 40), affines(net, 1)
    way = [net(x, torch.lerp(net.unpainted(affine), affine, t)) for t in (0.0, 0.25, 0.5, 1.0)]
    away = [float((w - x).abs().mean()) for w in way]
    assert away[0] == 0
    assert away == sorted(away)
    assert torch.equal(way[-1], net(x, affine))


def test_styles_differ_and_their_means_are_styles_between(net: Network) -> None:
    x, affine = picture(32, 40), affines(net, 1, 2)
    one, two = net(x, affine[:1]), net(x, affine[1:])
    near = net(x, torch.lerp(affine[:1], affine[1:], 0.25))
    assert (one - two).abs().mean() > 0.05
    assert 0 < (near - one).abs().mean() < (near - two).abs().mean()


def test_the_predictor_sees_the_moments_alone(net: Network) -> None:
    found = net.predict(moments(1, 2, 3))
    assert found.shape == (3, net.layout.size)
    for i in range(3):
        torch.testing.assert_close(found[i : i + 1], net.predict(moments(i + 1)))
    assert min(float((a - b).abs().max()) for a, b in pairwise(found)) > 1e-3
    more = {**moments(1), "relu5_1": torch.zeros(1, 3, 3)}  # layers beyond its own are of no concern
    torch.testing.assert_close(net.predict(more), found[:1])
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net.predict(moments(1)), net.predict({k: m.float() for k, m in moments(1).items()}))
    assert net.style_colours(moments(1, 2)).shape == (2, 3, 4)


def test_a_summary_is_means_and_the_logarithms_of_deviations() -> None:
    """The deviations of channels and along directions equal those computed from the features."""
    g = torch.Generator().manual_seed(1)
    f = torch.randn(1, 5, 9, 11, generator=g) @ torch.randn(11, 11, generator=g)
    summary = StyleSummary(5)
    seen = summary.raw(raw_moments(f))[0]
    flat = f[0].flatten(1)
    along = summary.directions @ flat
    expected = [flat.mean(1), flat.std(1, correction=0).log(), along.std(1, correction=0).log()]
    torch.testing.assert_close(seen, torch.cat(expected), rtol=1e-3, atol=1e-3)
    assert len(seen) == len(summary.mean) == 20


def test_summaries_of_many_styles_have_mean_0_and_deviation_1() -> None:
    many, summary = moments(*range(12))["relu1_1"], StyleSummary(4)
    summary.calibrate(many)
    found = summary(many)
    torch.testing.assert_close(found.mean(0), torch.zeros(16), rtol=0, atol=1e-4)
    torch.testing.assert_close(found.std(0), torch.ones(16), rtol=0, atol=1e-3)


def test_a_style_of_one_colour_has_finite_affines(net: Network) -> None:
    plain = {k: raw_moments(torch.ones(1, c, 4, 4)) for k, c in LAYERS.items()}
    assert net.predict(plain).isfinite().all()


def test_a_new_network_nearly_keeps_the_photograph() -> None:
    net = Network(CONFIG)
    net.initialise(torch.Generator().manual_seed(0))
    with torch.no_grad():
        predicted = net.predict(moments(1, 2))
        x = torch.rand(2, 3, 48, 48)
        assert (predicted[0] - predicted[1]).abs().max() < 1
        assert (net(x, predicted) - x).abs().mean() < 0.3
    other = Network(CONFIG)
    other.initialise(torch.Generator().manual_seed(0))  # the generator alone decides
    assert all(torch.equal(a, b) for a, b in zip(net.convolutions(), other.convolutions(), strict=True))


def test_the_length_of_convolutions_means_nothing() -> None:
    net, x = network(), picture(48, 48)
    affine = affines(net, 1)
    before = net(x, affine)
    for i, w in enumerate(net.convolutions()):
        w *= 2.0 + i
    net.normalise()
    torch.testing.assert_close(net(x, affine), before, rtol=0.01, atol=2e-3)
    for w in net.convolutions():
        torch.testing.assert_close(w.flatten(1).norm(dim=1), torch.full((len(w),), 2**0.5))


def test_constants_mean_nothing_and_are_removed() -> None:
    net, x = network(), picture(48, 48)
    styles, colours = (
        moments(1),
        torch.tensor([[[0.05, 0.01, 0.0, 0.5], [0.01, 0.04, 0.0, 0.4], [0.0, 0.0, 0.06, 0.6]]]),
    )
    assert len(net.layout.constants) == len(net.layout.linear)
    last = net.predictor[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        for shifts in net.layout.constants:
            last.bias[shifts] += torch.linspace(-1, 1, shifts.stop - shifts.start)
        before = colour(net(x, net.predict(styles)), colours)
        net.normalise()
        affine = net.predict(styles)
        torch.testing.assert_close(colour(net(x, affine), colours), before, rtol=0, atol=1e-3)
    for shifts in net.layout.constants:
        assert not affine[:, shifts].any()
        assert not net.learnt[:, shifts].any()
    assert affine[:, net.layout.parts["shift"]].any()


# -- learnt styles, and beginning as another network ------------------------------------------------------------------


def test_learnt_styles_go_by_name(net: Network) -> None:
    for i, name in enumerate(CONFIG.styles):
        found = net.learnt_style(name)
        assert found is not None
        assert torch.equal(found, net.learnt[i : i + 1])
    assert net.learnt_style("three") is None
    assert network(replace(CONFIG, styles=())).learnt_style("one") is None


def test_it_begins_as_a_known_network(net: Network) -> None:
    """All weights are copied, and the learnt styles that both have. Other styles begin as predicted."""
    for styles in (("two", "new"), (), ("one", "two"), ("new",)):
        other = Network(replace(CONFIG, styles=styles))
        other.begin_as(net)
        assert other.learnt.shape == (len(styles), net.layout.predicted)
        for k, v in other.state_dict().items():
            assert k == "learnt" or torch.equal(v, net.state_dict()[k]), k
        for name in styles:
            learnt, known = other.learnt_style(name), net.learnt_style(name)
            assert learnt is not None
            assert torch.equal(learnt, torch.zeros_like(learnt) if known is None else known)
    without = network(replace(CONFIG, styles=()))
    other = network(seed=1)
    other.begin_as(without)
    assert other.learnt.abs().max() == 0


@pytest.mark.parametrize(
    "change",
    [
        {"width": 8},
        {"blocks": 3},
        {"fine": 0},
        {"rank": 1},
        {"noise": 2},
        {"hidden": 9},
        {"encoder": "another"},
        {"layers": {"relu1_1": 4}},
    ],
    ids=str,
)
def test_it_does_not_begin_as_one_of_another_shape(net: Network, change: dict[str, Any]) -> None:
    other = Network(replace(CONFIG, **change))
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(
        WeightsError, match=r"network to start from has another shape: .*; give the same shape"
    ) as caught:
        other.begin_as(net)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def file(net: Network, tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    save_network(net, path, training={"steps": 3}, licence="CC0-1.0")
    return path


def test_there_and_back(net: Network, file: Path) -> None:
    found, metadata = load_network(file)
    assert found.config == net.config
    assert json.loads(metadata["training"]) == {"steps": 3}
    assert metadata["licence"] == "CC0-1.0"
    assert len(found.digest) == 16
    assert not found.training
    assert not any(p.requires_grad for p in found.parameters())
    state = net.state_dict()
    assert found.state_dict().keys() == state.keys()
    for k, v in found.state_dict().items():
        assert torch.equal(v, state[k].half().float()), k
        assert v.dtype == torch.float32
    x, affine = picture(32, 40), affines(net, 1)
    assert (found(x, affine) - net(x, affine)).abs().max() < 0.02
    torch.testing.assert_close(found.predict(moments(1)), net.predict(moments(1)), rtol=0, atol=0.02)


def test_what_was_read_is_written_as_it_was(file: Path, tmp_path: Path) -> None:
    """So equal networks have the same digest, and different ones have different digests."""
    found, _ = load_network(file)
    again = tmp_path / "again.safetensors"
    save_network(found, again, training={"steps": 3}, licence="CC0-1.0")
    assert again.read_bytes() == file.read_bytes()
    found.last.weight += 1
    save_network(found, again, training={"steps": 3}, licence="CC0-1.0")
    assert load_network(again)[0].digest != load_network(file)[0].digest


def test_loading_leaves_the_random_numbers_alone(file: Path) -> None:
    torch.manual_seed(0)
    wanted = torch.rand(1)
    torch.manual_seed(0)
    load_network(file)
    assert torch.equal(torch.rand(1), wanted)


def test_weights_that_float16_does_not_hold_are_not_written(tmp_path: Path) -> None:
    net = network()
    net.last.weight[0, 0, 0, 0] = 1e6
    with pytest.raises(WeightsError, match=r"last.weight has values that are not finite as torch.float16"):
        save_network(net, tmp_path / "net.safetensors", training={}, licence="MIT")
    assert not list(tmp_path.iterdir())


def broken(key: str, value: Any) -> Callable[[dict[str, Any], dict[str, Tensor]], None]:
    def change(config: dict[str, Any], _: dict[str, Tensor]) -> None:
        config[key] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda config, tensors: config.clear(),
        *(lambda config, tensors, key=key: config.pop(key) for key in ("encoder", "layers", "width", "rank", "styles")),
        *(broken("width", value) for value in (0, 8, 100_000, -4, "wide", None, [4])),
        *(broken("blocks", value) for value in (1, -1, 65)),
        *(broken("layers", value) for value in ({}, 3, {"relu1_1": 4}, {"relu1_1": 4, "relu2_1": 10**9})),
        *(broken("hidden", value) for value in (0, 10**9, 9, float("inf"))),
        *(broken("styles", value) for value in (3, [], ["one"], ["one", "two", "three"])),
        lambda config, tensors: tensors.pop("last.bias"),
        lambda config, tensors: tensors.update(more=torch.zeros(3)),
        lambda config, tensors: tensors.update({"fine.0.weight": torch.zeros(4, 4, 3, 5)}),
    ],
)
def test_a_file_that_does_not_fit(net: Network, tmp_path: Path, change: Callable[[Any, Any], Any]) -> None:
    path = tmp_path / "net.safetensors"
    config, tensors = net.config.to_dict(), dict(net.state_dict())
    change(config, tensors)
    write_model_file(path, "network", config, tensors, licence="MIT")
    with pytest.raises(WeightsError, match=r"net\.safetensors does not hold a network that paints") as caught:
        load_network(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["transformer", "arbitrary"])
def test_a_network_of_an_earlier_version(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "old.safetensors"
    write_model_file(path, kind, {"styles": ["one"], "width": 4}, {"weight": torch.zeros(3)}, licence="MIT")
    message = r"old\.safetensors is a network of an earlier version; train it again with `impasto train network`$"
    with pytest.raises(WeightsError, match=message):
        load_network(path)


def test_a_file_of_something_else(tmp_path: Path, file: Path) -> None:
    path = tmp_path / "style.safetensors"
    write_model_file(path, "style", {}, {"weight": torch.zeros(3)}, licence="MIT")
    with pytest.raises(WeightsError, match="holds a network of the kind 'style', not 'network'"):
        load_network(path)
    with pytest.raises(WeightsError, match="there is no such model file"):
        load_network(tmp_path / "none.safetensors")
    for content in (b"", b"not safetensors", file.read_bytes()[:2000], file.read_bytes()[:-7]):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="is damaged or not a model file") as caught:
            load_network(path)
        assert "\n" not in str(caught.value)


def test_the_file_is_enough(file: Path) -> None:
    """The file holds, as JSON, everything that is needed to build the network."""
    config, tensors, metadata = read_model_file(file, "network")
    assert NetworkConfig.from_dict(config) == CONFIG
    assert NetworkConfig.from_dict(json.loads(json.dumps(CONFIG.to_dict()))) == CONFIG
    assert metadata["format"] == "impasto"
    assert sum(t.numel() for t in tensors.values()) == sum(t.numel() for t in network().state_dict().values())
