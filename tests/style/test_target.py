"""Tests of StyleTarget: measuring, interpolating, blending, saving, loading, and messages about damaged files."""

import json
import math
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from impasto.device import Compute, choose_compute
from impasto.errors import OptionError, StyleError, WeightsError
from impasto.models.model_file import read_model_file, write_model_file
from impasto.models.moments import raw_moments
from impasto.models.vgg import STYLE_LAYERS, VGG, VGGConfig
from impasto.models.weights import load_encoder
from impasto.style.target import StyleTarget, blend, builtin_names, fit_style, load_builtin, shares_of

PLAIN = Compute(torch.device("cpu"), None)
ABOUT = {"title": "The Cat", "artist": "Somebody", "date": "1889", "licence": "CC0-1.0", "source": "here"}


@pytest.fixture(scope="module")
def encoder() -> VGG:
    """Return a small VGG with reflection padding and random weights."""
    net = VGG(VGGConfig((3, 4, 5, 6, 4), (1, 1, 1, 2, 1), {}, padding="reflect"), "tiny").eval()
    net.initialise(torch.Generator().manual_seed(0))
    net.digest = "0123456789abcdef"
    return net


@pytest.fixture
def target(encoder: VGG, photo: Any) -> StyleTarget:
    return StyleTarget.of(photo("chelsea", 128), encoder, PLAIN, (64, 128), about=ABOUT)


def test_it_holds_the_raw_moments_of_the_features(encoder: VGG, photo: Any) -> None:
    picture = photo("chelsea", 96)
    target = StyleTarget.of(picture, encoder, PLAIN, (48, 96, 400))
    assert (target.encoder, target.digest, target.pooling) == ("tiny", "0123456789abcdef", "max")
    assert target.sizes == (48, 96, 400)
    assert target.layers == STYLE_LAYERS
    features = encoder(picture, STYLE_LAYERS)
    for size in (96, 400):  # beyond the picture's own size it is measured as it is
        for layer, f in features.items():
            assert torch.allclose(target.moments[size][layer], raw_moments(f), rtol=1e-4, atol=1e-6)
            assert target.pixels[size][layer] == f.shape[2] * f.shape[3]
    assert target.pixels[48]["relu1_1"] < target.pixels[96]["relu1_1"]


@pytest.mark.parametrize("shape", [(10, 10), (1, 1), (8, 60), (90, 4)])
def test_a_small_style_is_enlarged(encoder: VGG, shape: tuple[int, int]) -> None:
    picture = torch.rand(1, 3, *shape, generator=torch.Generator().manual_seed(0))
    target = StyleTarget.of(picture, encoder, PLAIN, (16, 64))
    h, w = (max(32, round(32 * s / min(shape))) for s in shape)
    assert target.pixels[16]["relu1_1"] == h * w
    assert all(m.isfinite().all() for layers in target.moments.values() for m in layers.values())


def test_a_style_that_is_a_line_is_refused(encoder: VGG) -> None:
    with pytest.raises(StyleError, match="3000x1 pixels is too elongated; crop it"):
        StyleTarget.of(torch.zeros(1, 3, 1, 3000), encoder, PLAIN)
    with pytest.raises(StyleError, match="1x3000 pixels is too elongated; crop it"):
        fit_style(torch.zeros(1, 3, 3000, 1), 512, encoder)


@pytest.mark.parametrize(
    ("picture", "size", "layers", "fitted"),
    [
        ((60, 80), 40, STYLE_LAYERS, (32, 43)),  # 30x40 would be too small for relu5_1
        ((60, 80), 48, STYLE_LAYERS, (36, 48)),
        ((60, 80), 80, STYLE_LAYERS, (60, 80)),
        ((60, 80), 500, STYLE_LAYERS, (60, 80)),  # never enlarged to the size asked for
        ((80, 60), 64, STYLE_LAYERS, (64, 48)),
        ((60, 80), 10, ("relu2_1",), (8, 10)),
        ((60, 80), 2, ("relu2_1",), (4, 5)),
        ((3, 9), 9, ("relu3_1",), (8, 24)),
    ],
)
def test_a_style_is_fitted(
    encoder: VGG, picture: tuple[int, int], size: int, layers: tuple[str, ...], fitted: tuple[int, int]
) -> None:
    """A style gets the requested long side, but is neither enlarged nor made too small for the deepest layer."""
    found = fit_style(torch.rand(1, 3, *picture, generator=torch.Generator().manual_seed(0)), size, encoder, layers)
    assert tuple(found.shape) == (1, 3, *fitted)
    encoder(found, layers)


def test_a_style_that_fits_is_the_picture_itself(encoder: VGG) -> None:
    picture = torch.rand(1, 3, 60, 80, generator=torch.Generator().manual_seed(0))
    assert fit_style(picture, 80, encoder) is picture


def test_shares_sum_to_one() -> None:
    assert shares_of((2, 1, 1), 3) == (0.5, 0.25, 0.25)
    assert shares_of((0, 7), 2) == (0, 1)
    with pytest.raises(OptionError, match="2 --style-weights for 1 styles"):
        shares_of((1, 1), 1)


def test_at_a_stored_size_and_beyond_the_range(target: StyleTarget) -> None:
    for asked, stored in ((64, 64), (128, 128), (1, 64), (5000, 128)):
        found = target.at(asked)
        assert found.keys() == set(STYLE_LAYERS)
        assert all(torch.equal(found[k], target.moments[stored][k]) for k in found), asked


def test_at_a_size_between_it_is_interpolated_by_the_logarithm(target: StyleTarget) -> None:
    found = target.at(64 * math.sqrt(2))
    for k, m in found.items():
        assert torch.allclose(m, (target.moments[64][k] + target.moments[128][k]) / 2, rtol=1e-5)
    near = target.at(65)
    assert all(
        (near[k] - target.moments[64][k]).norm() <= 0.03 * (target.moments[128][k] - target.moments[64][k]).norm()
        for k in near
    )


def test_with_one_size_it_is_that_at_all_sizes(encoder: VGG, photo: Any) -> None:
    one = StyleTarget.of(photo("coffee", 64), encoder, PLAIN, (64,))
    for size in (10, 64, 64.0, 700):
        assert torch.equal(one.at(size)["relu3_1"], one.moments[64]["relu3_1"])


def test_there_and_back(target: StyleTarget, encoder: VGG, tmp_path: Path) -> None:
    path = tmp_path / "cat.style.safetensors"
    target.save(path)
    loaded = StyleTarget.load(path)
    assert (loaded.encoder, loaded.digest, loaded.pooling) == (target.encoder, target.digest, target.pooling)
    assert (loaded.sizes, set(loaded.layers)) == (target.sizes, set(target.layers))
    assert loaded.pixels == target.pixels
    assert loaded.about == ABOUT
    assert loaded.calm == target.calm
    assert target.calm is not None
    for size, layers in target.moments.items():
        for layer, m in layers.items():
            found = loaded.moments[size][layer]
            assert torch.equal(found, m.half().float())
            assert torch.equal(found, found.transpose(1, 2))
            assert found[0, -1, -1] == 1
    loaded.check(encoder)
    assert read_model_file(path, "style")[2]["licence"] == "CC0-1.0"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_large_moments_are_kept_as_float32(target: StyleTarget, tmp_path: Path) -> None:
    large = {64: {k: m * 1e6 for k, m in target.moments[64].items()}}
    huge = StyleTarget("tiny", "d", "max", large, {64: target.pixels[64]})
    huge.save(tmp_path / "huge.safetensors")
    loaded = StyleTarget.load(tmp_path / "huge.safetensors")
    for k, m in large[64].items():  # of which the upper triangle is kept
        assert torch.equal(loaded.moments[64][k].triu(), m.triu())


def test_what_a_network_learnt_is_kept(target: StyleTarget, tmp_path: Path) -> None:
    path = tmp_path / "cat.style.safetensors"
    target.save(path)
    assert (StyleTarget.load(path).learnt, StyleTarget.load(path).network) == (None, "")
    learnt = torch.randn(1, 7, generator=torch.Generator().manual_seed(0))
    replace(target, learnt=learnt, network="0123").save(path)
    found = StyleTarget.load(path)
    assert found.network == "0123"
    assert found.learnt is not None
    assert torch.equal(found.learnt, learnt.half().float())
    assert found.layers == target.layers
    assert found.sizes == target.sizes


def test_another_encoder_is_refused(target: StyleTarget, encoder: VGG) -> None:
    other = VGG(encoder.config, "other").eval()
    other.digest = "fedcba9876543210"
    with pytest.raises(StyleError, match=r"tiny .*not for other .*; give the painting itself instead"):
        target.check(other)
    averaging = VGG(encoder.config, "tiny", "average").eval()
    averaging.digest = encoder.digest
    with pytest.raises(StyleError, match="average pooling"):
        target.check(averaging)


def test_moments_that_do_not_fit_the_encoder_are_refused(target: StyleTarget, encoder: VGG) -> None:
    narrow = {64: {k: m[:, 1:, 1:] for k, m in target.moments[64].items()}}
    missing = {64: {k: m for k, m in target.moments[64].items() if k != "relu5_1"}}
    for moments in (narrow, missing):
        with pytest.raises(StyleError, match="lacks the layers relu1_1"):
            StyleTarget("tiny", encoder.digest, "max", moments, target.pixels).check(encoder)


def test_blend_is_the_weighted_mean(encoder: VGG, photo: Any) -> None:
    first, second = (StyleTarget.of(photo(n, 64), encoder, PLAIN, (64,)).at(64) for n in ("coffee", "rocket"))
    mixed = blend([first, second], (3, 1))
    assert all(torch.allclose(mixed[k], 0.75 * first[k] + 0.25 * second[k]) for k in first)
    alone = blend([first, second], (1, 0))
    assert all(torch.equal(alone[k], first[k]) for k in first)
    for k, m in blend([first], (0.2,)).items():
        assert torch.equal(m, first[k])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((1.0,), "1 --style-weights for 2 styles; give one for each"),
        ((1.0, 1.0, 1.0), "3 --style-weights for 2 styles"),
        ((0.0, 0.0), "one must be positive"),
        ((2.0, -1.0), "must not be negative"),
    ],
)
def test_blend_weights_that_do_not_fit(weights: tuple[float, ...], message: str) -> None:
    moments = {"relu1_1": torch.eye(3)[None]}
    with pytest.raises(OptionError, match=message):
        blend([moments, moments], weights)


# -- damaged files ----------------------------------------------------------------------------------------------------


def test_missing_and_foreign_files(tmp_path: Path, encoder: VGG) -> None:
    with pytest.raises(WeightsError, match="no such model file"):
        StyleTarget.load(tmp_path / "nothing.safetensors")
    path = tmp_path / "x.safetensors"
    for data in (b"", b"no style", bytes(300)):
        path.write_bytes(data)
        with pytest.raises(WeightsError, match=r"x\.safetensors is damaged or not a model file"):
            StyleTarget.load(path)
    safetensors.torch.save_file({"64/relu1_1": torch.ones(3)}, path)
    with pytest.raises(WeightsError, match="not a model file of impasto"):
        StyleTarget.load(path)
    write_model_file(path, "encoder", {}, {"a": torch.ones(1)}, licence="")
    with pytest.raises(WeightsError, match="holds a network of the kind 'encoder'"):
        StyleTarget.load(path)


CONFIG: dict[str, Any] = {"encoder": "tiny", "digest": "0", "pooling": "max", "pixels": {"64": {"a": 9}}, "about": {}}


@pytest.mark.parametrize(
    ("change", "tensors"),
    [
        *(({key: None}, {"64/a": torch.ones(3)}) for key in CONFIG),
        ({"about": ["title"]}, {"64/a": torch.ones(3)}),
        ({"pixels": {"large": {}}}, {"64/a": torch.ones(3)}),
        ({"pixels": [1]}, {"64/a": torch.ones(3)}),
        ({}, {}),
        ({}, {"a": torch.ones(3)}),
        ({}, {"large/a": torch.ones(3)}),
        ({}, {"64/a": torch.ones(4)}),
        ({}, {"64/a": torch.ones(2, 2)}),
        ({}, {"64/a": torch.ones(())}),
        ({}, {"64/a": torch.ones(3), "128/b": torch.ones(3)}),
        ({}, {"64/a": torch.tensor([1.0, math.nan, 1.0])}),
        ({}, {"64/a": torch.ones(3), "learnt": torch.ones(5)}),  # by no network
        ({"network": "0"}, {"64/a": torch.ones(3), "learnt": torch.tensor([1.0, math.inf])}),
    ],
)
def test_a_file_that_is_not_whole(change: dict[str, Any], tensors: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "x.style.safetensors"
    config = {k: v for k, v in {**CONFIG, **change}.items() if v is not None}
    metadata = {"format": "impasto", "kind": "style", "config": json.dumps(config)}
    safetensors.torch.save_file(tensors, path, metadata)
    with pytest.raises(StyleError, match=r"x\.style\.safetensors is not a valid style file") as caught:
        StyleTarget.load(path)
    assert "\n" not in str(caught.value)


def test_cut_and_flipped_files_end_in_an_error_or_a_finite_style(target: StyleTarget, tmp_path: Path) -> None:
    path = tmp_path / "cat.style.safetensors"
    target.save(path)
    whole = path.read_bytes()
    rng = torch.Generator().manual_seed(0)
    for i in range(60):
        data = bytearray(whole)
        at = int(torch.randint(len(data) if i % 2 else 900, (), generator=rng))
        if i % 3 == 0:
            del data[at:]
        else:
            data[at] ^= 1 << (i % 8)
        path.write_bytes(data)
        with suppress(WeightsError, StyleError):
            loaded = StyleTarget.load(path)
            assert all(m.isfinite().all() for layers in loaded.moments.values() for m in layers.values())


# -- the styles that are shipped --------------------------------------------------------------------------------------


@pytest.mark.skipif(not builtin_names(), reason="no built-in style is there yet")
def test_every_built_in_style_is_whole() -> None:
    encoder = load_encoder("compact")
    for name in builtin_names():
        style = load_builtin(name)
        style.check(encoder)
        assert style.about.get("title"), name
        assert style.about.get("licence"), name
        assert all(style.at(size).keys() >= set(STYLE_LAYERS) for size in (100, 512, 3000)), name


def test_the_compact_encoder_measures_in_the_machines_precision(photo: Any) -> None:
    """bfloat16 changes the moments only a little, so a style file stands for its painting on every machine."""
    encoder = load_encoder("compact")
    picture = photo("coffee", 96)
    exact = StyleTarget.of(picture, encoder, PLAIN, (96,)).at(96)
    low = StyleTarget.of(picture, encoder, Compute(torch.device("cpu"), torch.bfloat16), (96,)).at(96)
    assert all((low[k] - m).norm() < 0.02 * m.norm() for k, m in exact.items())
    assert choose_compute("cpu", "float32").autocast_dtype is None
