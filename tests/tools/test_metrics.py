"""Tests of the figures of quality: known answers, and the benchmarks at their smallest."""

import importlib.util
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from impasto.device import Compute
from impasto.errors import OptionError, TrainingError
from impasto.image.picture import Picture
from impasto.image.write import write_image
from impasto.models.vgg import VGG, VGGConfig
from impasto.tools import metrics
from impasto.tools.metrics import Figures, Judge, Judgement

Photo = Callable[[str, int], Tensor]
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SIDE = 96


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(metrics.load_judge().encoder, long_side=SIDE)


def test_default_judge_is_the_bundled_encoder() -> None:
    judge = metrics.load_judge()
    assert judge.encoder.name == "compact"
    assert judge.long_side == 512


def test_result_that_is_the_style(judge: Judge, photo: Photo) -> None:
    f = judge.figures(photo("coffee", SIDE), photo("chelsea", SIDE), photo("chelsea", SIDE))
    assert (f.gram, f.cov, f.sliced) == (0, 0, 0)
    assert f.content > 0.5


def test_result_that_is_the_photo(judge: Judge, photo: Photo) -> None:
    judgement = judge.judge(photo("coffee", SIDE), photo("chelsea", SIDE), photo("coffee", SIDE))
    assert judgement.result == judgement.photo
    assert judgement.photo.content == 0
    assert min(judgement.photo.gram, judgement.photo.cov, judgement.photo.sliced) > 0.1
    assert 0 < judgement.recoloured.content < 1
    assert metrics.over_photo([judgement]) == Figures(1, 1, 1, 0)


def test_nearer_to_the_style_is_better(judge: Judge, photo: Photo) -> None:
    """Along a row of cross-fades from photo to style, the style's figures fall and the content's rises."""
    content, style = photo("astronaut", SIDE), photo("coffee", SIDE)
    content = content[..., : style.shape[-2], :]
    rows = [judge.figures(content, style, torch.lerp(content, style, t)) for t in (0.0, 0.5, 0.8, 0.95, 1.0)]
    for name, order in (("gram", -1), ("cov", -1), ("sliced", -1), ("content", 1)):
        values = [getattr(f, name) for f in rows[name != "content" :]]  # half a cross-fade is paler than both its ends
        assert values == sorted(values, reverse=order < 0), name


def test_a_file_is_judged_as_its_picture(judge: Judge, photo: Photo, tmp_path: Path) -> None:
    pictures = [photo(name, 130) for name in ("coffee", "chelsea", "rocket")]
    for i, picture in enumerate(pictures):
        write_image(Picture(picture), tmp_path / f"{i}.png")
    assert judge.judge(*(tmp_path / f"{i}.png" for i in range(3))) == judge.judge(*pictures)


@pytest.mark.parametrize(("size", "judged"), [((200, 100), (96, 48)), ((50, 20), (96, 38)), ((300, 10), (96, 32))])
def test_judged_size(judge: Judge, size: tuple[int, int], judged: tuple[int, int]) -> None:
    picture = judge.picture(torch.full((1, 3, *size), 0.4))
    assert picture.shape == (1, 3, *judged)
    assert torch.equal(picture, torch.full_like(picture, 102 / 255))


def test_flat_pictures_have_finite_figures(judge: Judge) -> None:
    flat = torch.full((1, 3, SIDE, SIDE), 0.5)
    judgement = judge.judge(flat, flat, flat)
    assert judgement.result == Figures(0, 0, 0, 0)
    assert metrics.over_photo([judgement]).gram == 1


def test_judge_computes_in_float32() -> None:
    with pytest.raises(OptionError, match="float32"):
        Judge(VGG(VGGConfig((2,) * 5, (2, 2, 4, 4, 1), {})), Compute(torch.device("cpu"), torch.bfloat16))


def test_statistics_behind_a_head_are_those_of_the_wide_features(judge: Judge, photo: Photo) -> None:
    measured, x = judge.measure(photo("coffee", SIDE)), photo("coffee", SIDE)
    layer = "relu3_1"
    with torch.no_grad():
        wide = judge.encoder.heads[layer](judge.encoder(x, (layer,))[layer])[0].flatten(1)
    n = wide.shape[1]
    along = (metrics.projections(len(wide)) @ wide).sort(1).values
    torch.testing.assert_close(measured.gram[layer][0], wide @ wide.t() / n, rtol=1e-4, atol=3e-4)
    torch.testing.assert_close(measured.cov[layer][0], torch.cov(wide, correction=0), rtol=1e-4, atol=3e-4)
    torch.testing.assert_close(measured.quantiles[layer][:, [0, -1]], along[:, [0, -1]], rtol=1e-4, atol=1e-4)


def test_encoder_without_heads(photo: Photo) -> None:
    """Projections and Gram matrices are then those of the features themselves."""
    net = VGG(VGGConfig((4, 4, 6, 6, 6), (2, 2, 4, 4, 1), {}))
    net.initialise(torch.Generator().manual_seed(0))
    measured = Judge(net).measure(photo("coffee", SIDE))
    with torch.no_grad():
        f = net(photo("coffee", SIDE), ("relu2_1",))["relu2_1"][0].flatten(1)
    torch.testing.assert_close(measured.gram["relu2_1"][0], f @ f.t() / f.shape[1])
    assert measured.content.shape == (1, 6, SIDE * 2 // 3 // 8, SIDE // 8)


def test_quantiles_of_a_ramp() -> None:
    ramp = torch.arange(11.0).flip(0).view(1, 1, 1, 11)
    q = metrics.projected_quantiles(ramp, torch.tensor([[1.0], [-2.0]]), torch.tensor([0.0, 3.0]))
    torch.testing.assert_close(q[0], torch.linspace(0, 10, metrics.QUANTILES))
    torch.testing.assert_close(q[1], torch.linspace(-17, 3, metrics.QUANTILES))


def test_sliced_distance_of_a_shift() -> None:
    """If every column moves by d, every quantile along p moves by p.d; a uniform ramp of length 1 deviates by 1/4."""
    ramp = torch.linspace(0, 1, metrics.QUANTILES).expand(metrics.PROJECTIONS, -1)
    assert metrics.sliced_distance(ramp + 0.5, ramp) == pytest.approx(2, rel=0.01)
    assert metrics.sliced_distance(ramp * 3, ramp) == pytest.approx(4, rel=0.01)


def test_projections_are_fixed_and_of_length_one() -> None:
    p = metrics.projections(128)
    assert p.shape == (64, 128)
    assert torch.equal(p, metrics.projections(128))
    torch.testing.assert_close(p.norm(dim=1), torch.ones(64))


def test_recoloured_photo_has_the_colours_of_the_style() -> None:
    g = torch.Generator().manual_seed(0)
    mix = torch.tensor([[1.0, 0.3, 0.0], [0.0, 0.8, 0.4], [0.2, 0.0, 0.5]])
    photo = 0.5 + 0.03 * torch.randn(1, 3, 40, 50, generator=g)
    style = 0.4 + 0.04 * torch.einsum("ij,njhw->nihw", mix, torch.randn(1, 3, 30, 30, generator=g))
    colours, wanted = metrics.recolour(photo, style)[0].flatten(1), style[0].flatten(1)
    torch.testing.assert_close(colours.mean(1), wanted.mean(1), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.cov(colours), torch.cov(wanted), rtol=0, atol=2e-5)  # but for the ridge of 1e-5


def test_over_photo_is_a_geometric_mean() -> None:
    zero = Figures(0, 0, 0, 0)
    rows = [
        Judgement(Figures(0.5, 1, 0.1, 1), Figures(1, 1, 0.2, 0), zero),
        Judgement(Figures(0.4, 0.5, 0.4, 2), Figures(0.2, 1, 0.2, 0), zero),
    ]
    f = metrics.over_photo(rows)
    assert (f.gram, f.cov, f.sliced, f.content) == pytest.approx((1, math.sqrt(0.5), 1, 1.5))
    with pytest.raises(OptionError, match="at least"):
        metrics.over_photo([])


def test_spearman() -> None:
    assert metrics.spearman([1, 2, 3, 4], [1, 10, 100, 1000]) == pytest.approx(1)
    assert metrics.spearman([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert math.isnan(metrics.spearman([1, 2], [3, 3]))
    # By hand, the tie sharing its ranks: 1, 2.5, 2.5, 4 against 1, 2, 3, 4; covariance 4.5, squares 4.5 and 5.
    assert metrics.spearman([1, 2, 2, 3], [1, 2, 3, 4]) == pytest.approx(4.5 / math.sqrt(4.5 * 5))


def test_markdown_table() -> None:
    assert metrics.markdown_table(("a", "b"), [("x", 1.0), ("y", "")]) == (
        "| a | b |\n| --- | --: |\n| x | 1.000 |\n| y |  |"
    )


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a tiny random network of the teacher's shape."""
    g = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = {}

    def add(name: str, shape: tuple[int, ...], gain: float = 2.0) -> None:
        fan_in = math.prod(shape[1:])
        tensors[f"{name}.weight"] = torch.randn(shape, generator=g) * math.sqrt(gain / fan_in)
        tensors[f"{name}.bias"] = 0.1 * torch.randn(shape[0], generator=g)

    add("conv0", (3, 3, 1, 1), 4.0)
    before = 3
    for block, (width, depth) in enumerate(zip((6, 6, 8, 128, 8), (2, 2, 4, 4, 1), strict=True), start=1):
        for i in range(1, depth + 1):
            add(f"conv{block}{i}", (width, before, 3, 3))
            before = width
        add(f"conv{block}1_aux", ((64, 128, 256, 512, 512)[block - 1], width, 1, 1))
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_file(tensors, path)
    return path


def test_judge_by_a_teacher(teacher_file: Path, photo: Photo) -> None:
    judge = Judge(metrics.load_judge(str(teacher_file)).encoder, long_side=SIDE)
    judgement = judge.judge(photo("coffee", SIDE), photo("chelsea", SIDE), photo("chelsea", SIDE))
    assert judgement.result.gram == 0
    assert judgement.photo.content == 0


def test_judge_by_something_else(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"judge\.safetensors is not"):
        metrics.load_judge(str(tmp_path / "judge.safetensors"))


def benchmark(name: str) -> Any:
    """Return a benchmark's script as a module."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def paintings(photo: Photo, tmp_path: Path) -> Path:
    folder = tmp_path / "paintings"
    folder.mkdir()
    for name in ("chelsea", "coffee"):
        write_image(Picture(photo(name, 264)), folder / f"{name}-painting.png")
    return folder


def test_quality_benchmark(
    teacher_file: Path, paintings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    benchmark("quality").Quality(
        paintings=paintings,
        out=out,
        teacher=teacher_file,
        judge=str(teacher_file),
        contents=("rocket",),
        styles=("chelsea-painting",),
        size=64,
        iterations=2,
    )()
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [line.split(" | ")[2] for line in table[2:]] == ["compact", "teacher"] * 2 + ["recoloured photo"]
    for name in ("pairs.tsv", "pairs-teacher.tsv"):
        (row,) = (out / name).read_text().splitlines()
        assert [Path(p).is_file() for p in row.split("\t")] == [True] * 3


def test_encoder_benchmark(
    teacher_file: Path, paintings: Path, photo: Photo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(Picture(photo("astronaut", 264)), tmp_path / "astronaut.png")
    heldout = tmp_path / "heldout.txt"
    heldout.write_text("photos/astronaut.png\npaintings/chelsea-painting.png\npaintings/coffee-painting.png\n")
    benchmark("encoder").Encoder(
        teacher=teacher_file,
        photos=tmp_path,
        paintings=paintings,
        heldout=heldout,
        painted=3,
        size=64,
        iterations=2,
        bars=("relu1_1=1e9", "all=2"),
    )()
    output = capsys.readouterr().out
    assert output.count("| relu") == 6
    assert "<= 1e+09, reached" in output
    assert ">= 2, missed" in output


def test_error_of_the_teacher_itself_is_zero(teacher_file: Path, paintings: Path) -> None:
    module = benchmark("encoder")
    teacher = metrics.load_judge(str(teacher_file)).encoder
    errors = module.relative_errors(teacher, teacher, sorted(paintings.iterdir()))
    assert {e.error for e in errors.values()} == {0.0}


def test_error_of_the_mean_is_one(teacher_file: Path, paintings: Path) -> None:
    """A network whose head returns each channel's mean explains none of its variance."""
    module = benchmark("encoder")
    teacher, other = (metrics.load_judge(str(teacher_file)).encoder for _ in range(2))
    paths = sorted(paintings.iterdir())
    with torch.no_grad():
        columns = [
            module.behind_head(teacher, "relu2_1", teacher(metrics.read_image(p).tensor, ("relu2_1",))["relu2_1"])
            for p in paths
        ]
    head = other.heads["relu2_1"]
    assert isinstance(head, torch.nn.Conv2d)
    assert head.bias is not None
    head.weight.data.zero_()
    head.bias.data = torch.cat(columns, 1).mean(1).float()
    assert module.relative_errors(other, teacher, paths)["relu2_1"].error == pytest.approx(1, abs=1e-4)


def test_border_is_where_the_gradient_leaves_the_picture() -> None:
    """The first feature pixel inside the border depends on the picture's edge, the next one does not."""
    border = benchmark("encoder").border
    config = VGGConfig((2,) * 5, (2, 2, 4, 4, 1), {}, mean=(0, 0, 0), std=(1, 1, 1))
    net = VGG(config, pooling="average")  # which passes the gradient to all of its pixels
    for m in net.modules():
        if isinstance(m, torch.nn.Conv2d):
            assert m.bias is not None
            m.weight.data.fill_(0.1)
            m.bias.data.zero_()
    x = torch.rand(1, 3, 32, 256).requires_grad_(True)
    for layer in ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2", "relu5_1"):
        features = net(x, (layer,))[layer]
        b, s = border(layer), net.stride(layer)
        for i in (b, features.shape[-1] - 1 - b):
            (gradient,) = torch.autograd.grad(features[0, 0, 0, i], x, retain_graph=True)
            seen = gradient[0].abs().sum((0, 1)).nonzero().flatten()
            overhang = (len(seen) - s) / 2
            assert overhang <= b * s < overhang + s, layer


def test_speed_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    benchmark("speed").Speed(repeats=1, size=(32, 48), networks=("compact",), matrix=64)()
    output = capsys.readouterr().out
    assert "| compact |" in output
    assert "impasto --version" in output


def test_plain_and_our_way_have_the_same_features(photo: Photo) -> None:
    """The two networks that are timed against each other are the same."""
    module = benchmark("speed")
    net, x = metrics.load_encoder("compact"), photo("coffee", 64)
    with torch.no_grad():
        plain, ours = module.PlainVGG(net)(x), net(x, module.LAYERS)
        for layer, f in ours.items():
            torch.testing.assert_close(plain[layer], net.heads[layer](f), rtol=1e-3, atol=1e-3)


def test_flops_of_vgg19() -> None:
    """At 224x224, VGG-19's first 13 convolutions take 19.6 billion operations, worked out by layer."""
    module = benchmark("speed")
    macs = 1792 - 64 + 36864  # block 1 per pixel of 224 x 224, without biases
    macs = macs * 224**2 + (73728 + 147456) * 112**2 + (294912 + 3 * 589824) * 56**2
    macs += (1179648 + 3 * 2359296) * 28**2 + 2359296 * 14**2
    assert module.conv_flops(module.random_vgg19(), (224, 224)) == 4 * macs


@pytest.mark.parametrize("name", ["quality", "encoder"])
def test_benchmark_without_its_data_says_what_it_needs(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    getattr(benchmark(name), name.title())()()
    assert "--paintings" in capsys.readouterr().out
