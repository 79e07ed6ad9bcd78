"""Training the compact encoder in small, with a made-up teacher and a few steps, and every way in which it can fail."""

import csv
import os
import pickle
import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from impasto.device import Compute
from impasto.errors import OptionError, TrainingError
from impasto.models.model_file import read_model_file
from impasto.models.vgg import COMPACT, STYLE_LAYERS, block_of
from impasto.models.weights import load_encoder
from impasto.options import TrainEncoderOptions
from impasto.tools.training import follow_encoder
from impasto.train import distill, painted
from impasto.train.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
from impasto.train.distill import EncoderRecipe, Place, Sample, rate_factor
from impasto.train.loop import Training, TrainStep, train
from impasto.train.start import start_encoder_training
from impasto.train.student import fit_heads
from impasto.train.teacher import TARGETS, Teacher, load_teacher, sample

CPU = Compute(torch.device("cpu"), None)
WIDTHS = {1: 4, 2: 5, 3: 6, 4: COMPACT.widths[3], 5: 6}  # relu4_2 is compared as it is, so its width is given


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write random weights in the layout of the pruned VGG-19, as narrow as possible."""
    g = torch.Generator().manual_seed(0)
    heads = {block_of(k): v for k, v in COMPACT.heads.items() if k in STYLE_LAYERS}
    state = {"conv0.weight": torch.randn(3, 3, 1, 1, generator=g), "conv0.bias": torch.randn(3, generator=g)}
    before = 3
    for block, depth in enumerate((2, 2, 4, 4, 1), start=1):
        for i in range(1, depth + 1):
            width = COMPACT.heads["relu4_2"] if block == 4 else WIDTHS[block]
            weight = torch.randn(width, before, 3, 3, generator=g) * (2 / (9 * before)) ** 0.5
            state[f"conv{block}{i}.weight"], state[f"conv{block}{i}.bias"] = (
                weight,
                0.1 * torch.randn(width, generator=g),
            )
            if i == 1:
                aux = torch.randn(heads[block], width, 1, 1, generator=g) / width**0.5
                state |= {f"conv{block}1_aux.weight": aux, f"conv{block}1_aux.bias": torch.randn(len(aux), generator=g)}
            before = width
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_file(state, path)
    return path


def draw(path: Path, seed: int, size: tuple[int, int] = (72, 60)) -> None:
    """Write a picture of smooth random colours."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 6, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse.resize(size, Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def options(tmp_path: Path, teacher_file: Path, monkeypatch: pytest.MonkeyPatch) -> TrainEncoderOptions:
    """Return options for four steps of two crops, with everything that takes time made small."""
    for i in range(3):
        draw(tmp_path / "photos" / "deep" / f"{i}.png", i)
        draw(tmp_path / "paintings" / f"{i}.jpg", 10 + i)
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(distill, "VALIDATION", (1, 48))
    monkeypatch.setattr(distill, "PAINTED", ((1, 40), (2, 32)))
    monkeypatch.setattr(distill, "paint", partial(painted.paint, steps=3))
    monkeypatch.setattr(painted, "paint_plainly", partial(painted.paint_plainly, steps=2))
    return TrainEncoderOptions(
        teacher=teacher_file,
        photos=(tmp_path / "photos",),
        paintings=(tmp_path / "paintings",),
        out=tmp_path / "out" / "mine.safetensors",
        steps=4,
        batch_norm_steps=2,
        batch=2,
        crop=32,
        painted=0.0,
        checkpoint_every=2,
        validate_every=2,
        fit_batches=4,
        workers=0,
        device="cpu",
    )


PAINTING: dict[str, Any] = {"painted": 0.5, "paint_from": 1, "paint_every": 2, "pool": 5, "crop": 40}


def recipe_of(training: Training) -> EncoderRecipe:
    assert isinstance(training.recipe, EncoderRecipe)
    return training.recipe


def started(options: TrainEncoderOptions) -> EncoderRecipe:
    return recipe_of(start_encoder_training(options))


def steps_of(options: TrainEncoderOptions, stop: int | None = None) -> list[TrainStep]:
    """Take all steps, or those up to the one at which a signal stops the training."""
    found: list[TrainStep] = []
    with closing(train(start_encoder_training(options))) as steps:
        for step in steps:
            found.append(step)
            if step.step == stop:
                break
    return found


def figures_of(steps: list[TrainStep]) -> list[dict[str, float]]:
    return [s.figures for s in steps]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def batch_of(recipe: EncoderRecipe, seed: int, size: int = 2) -> Tensor:
    """Return crops of photographs and paintings, other than those of the training."""
    return recipe.batch([recipe.sample.draw(np.random.default_rng((99, seed, i))) for i in range(size)])


# -- the run ----------------------------------------------------------------------------------------------------------


def test_a_whole_run(options: TrainEncoderOptions, tmp_path: Path) -> None:
    """Training with batch norm, folded half way, and with painted pictures gives an encoder."""
    steps = steps_of(replace(options, **PAINTING, steps=6, batch_norm_steps=3))
    assert [(s.step, s.total) for s in steps] == [(i, 6) for i in range(1, 7)]
    for step in steps:
        assert step.figures.keys() == {"loss", *TARGETS}
        assert all(0 < v < 100 for v in step.figures.values())
    net = load_encoder(options.out)
    assert net.config == COMPACT
    picture = torch.rand(1, 3, 40, 40)
    assert all(f.isfinite().all() for f in net(picture, TARGETS).values())
    _, _, metadata = read_model_file(options.out, "encoder")
    assert '"steps": 6' in metadata["training"]
    assert '"photographs": 3' in metadata["training"]
    assert str(tmp_path) not in str(metadata)
    assert metadata["licence"] == "MIT"
    assert sorted(p.name for p in options.out.parent.iterdir()) == ["mine.checkpoint", "mine.safetensors"]


def test_it_learns(options: TrainEncoderOptions) -> None:
    o = replace(options, batch=4, batch_norm_steps=100, steps=200, rate=0.05, small_rate=0.03)
    training = start_encoder_training(o)
    recipe = recipe_of(training)
    x = batch_of(recipe, 0, 4)
    targets = recipe.teacher.targets(x, (0, 0))

    def errors() -> dict[str, float]:
        with torch.no_grad():
            return {k: v.item() for k, v in recipe.net.errors(x, targets, (0, 0), recipe.compute).items()}

    before = errors()
    with closing(training.batches()) as batches:
        for _ in range(45):
            training.advance(batches)
    after = errors()
    assert all(after[k] < 0.9 * before[k] for k in TARGETS), (before, after)


def test_folding_changes_nothing_but_the_batch_norm(options: TrainEncoderOptions) -> None:
    training = start_encoder_training(replace(options, batch_norm_steps=3))
    recipe = recipe_of(training)
    with closing(training.batches()) as batches:
        for _ in range(2):
            training.advance(batches)
    x = batch_of(recipe, 7)
    before, optimisers = recipe.encoder()(x, TARGETS), recipe.optimisers
    hints = {k: v.clone() for k, v in recipe.net.hints.state_dict().items()}
    assert recipe.net.vgg.config.batch_norm
    recipe.after(3)
    assert not recipe.net.vgg.config.batch_norm
    assert recipe.optimisers is not optimisers
    assert all(p.requires_grad for p in recipe.net.parameters())
    for layer, f in recipe.encoder()(x, TARGETS).items():
        assert torch.allclose(f, before[layer], rtol=1e-3, atol=1e-3 * before[layer].abs().max().item()), layer
    assert same(hints, recipe.net.hints.state_dict())


def test_the_same_seed_trains_the_same_network(options: TrainEncoderOptions) -> None:
    options = replace(options, **PAINTING)
    first = figures_of(steps_of(options))
    weights = load_encoder(options.out).state_dict()
    torch.manual_seed(99)
    assert figures_of(steps_of(replace(options, workers=1))) == first
    assert same(load_encoder(options.out).state_dict(), weights)
    assert figures_of(steps_of(replace(options, seed=1))) != first


@pytest.mark.parametrize(
    ("stop", "average"),
    [(2, 0.0), (3, 0.9), *(pytest.param(stop, 0.0, marks=pytest.mark.slow) for stop in (1, 4))],
)
def test_a_training_that_is_stopped_and_resumed_is_the_uninterrupted_one(
    options: TrainEncoderOptions, stop: int, average: float
) -> None:
    """It is equal bit for bit, with the pool of painted pictures, before, at and after folding the batch norm."""
    options = replace(options, **PAINTING, steps=5, average=average, checkpoint_every=100)
    whole = figures_of(steps_of(options))
    file, state = options.out.read_bytes(), load_checkpoint(checkpoint_path(options.out))
    options.out.unlink()
    steps_of(options, stop)
    resumed = steps_of(replace(options, resume=True))
    assert [s.step for s in resumed] == list(range(stop + 1, 6))
    assert figures_of(resumed) == whole[stop:]
    assert options.out.read_bytes() == file
    again = load_checkpoint(checkpoint_path(options.out))
    assert same(again["net"], state["net"])
    assert same(again["average"], state["average"])
    assert len(again["recipe"]["pool"]) == 5
    assert all(torch.equal(a, b) for a, b in zip(again["recipe"]["pool"], state["recipe"]["pool"], strict=True))


def test_without_an_average_the_weights_are_written(options: TrainEncoderOptions) -> None:
    steps_of(options)
    state = load_checkpoint(checkpoint_path(options.out))
    assert same(state["average"], state["net"])


def test_the_average_starts_again_at_the_fold(options: TrainEncoderOptions) -> None:
    training = start_encoder_training(replace(options, average=0.9))
    with closing(training.batches()) as batches:
        training.advance(batches)
        assert not same(training.average, training.recipe.net.state_dict())
        training.advance(batches)
        assert same(training.average, training.recipe.net.state_dict())
        training.advance(batches)
        assert not same(training.average, training.recipe.net.state_dict())


def test_the_minutes_end_it(options: TrainEncoderOptions) -> None:
    assert steps_of(replace(options, minutes=0.0)) == []
    assert not options.out.exists()


def test_resuming_what_is_finished_does_nothing(options: TrainEncoderOptions) -> None:
    options = replace(options, steps=2)
    steps_of(options)
    assert steps_of(replace(options, resume=True)) == []


def test_without_batch_norm(options: TrainEncoderOptions) -> None:
    options = replace(options, batch_norm_steps=0, steps=2)
    assert not started(options).net.vgg.config.batch_norm
    assert len(steps_of(options)) == 2
    assert load_encoder(options.out).config == COMPACT


def test_with_batch_norm_to_the_end_it_is_folded_when_it_is_written(options: TrainEncoderOptions) -> None:
    assert len(steps_of(replace(options, batch_norm_steps=10))) == 4
    assert load_encoder(options.out).config == COMPACT


# -- the pool of painted pictures -------------------------------------------------------------------------------------


def test_pictures_are_painted_when_it_is_time(options: TrainEncoderOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    painted_at: list[int] = []
    recipe = started(replace(options, steps=9, painted=0.5, paint_from=3, paint_every=2))
    monkeypatch.setattr(recipe, "paint", painted_at.append)
    for step in range(1, 10):
        recipe.after(step)
    assert painted_at == [3, 4, 6, 8]


def test_the_pool_keeps_the_last_pictures(options: TrainEncoderOptions) -> None:
    recipe = started(replace(options, pool=4))
    for step in range(3):
        recipe.paint(step)
    before = recipe.pool.copy()
    assert len(before) == 4
    assert all(x.shape[0] == 3 and min(x.shape[1:]) >= 32 and x.dtype == torch.float16 for x in before)
    recipe.paint(3)  # three states of one picture, or of two
    assert len(recipe.pool) == 4
    assert recipe.pool[-1] is not before[-1]
    assert recipe.pool[0] is before[3] or not any(x is y for x in recipe.pool for y in before)


def test_pictures_that_are_not_finite_stay_out(options: TrainEncoderOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    def paint(*_: Any) -> list[Tensor]:
        good = torch.rand(2, 3, 40, 40)
        good[0, 1, 2, 3] = torch.inf
        return [good, good * 1e6]  # beyond float16

    monkeypatch.setattr(distill, "paint", paint)
    recipe = started(options)
    recipe.paint(1)
    assert len(recipe.pool) == 1


def test_a_place_names_a_picture_and_a_crop_of_it(options: TrainEncoderOptions) -> None:
    recipe = started(options)
    recipe.pool = [torch.zeros(3, 40, 40).half(), torch.arange(3 * 36 * 34).view(3, 36, 34).half()]
    assert torch.equal(recipe.cut(Place(0.5, 0.0, 0.0)), recipe.pool[1][:, :32, :32].float())
    assert torch.equal(recipe.cut(Place(0.99, 0.99, 0.99)), recipe.pool[1][:, 4:, 2:].float())
    assert torch.equal(recipe.cut(Place(0.49, 0.3, 0.8)), torch.zeros(3, 32, 32))


def test_painted_pictures_enter_the_batches(options: TrainEncoderOptions) -> None:
    """They do so from the step at which there are some, and about as often as the options say.

    They depend on the numbers alone.
    """
    recipe = started(replace(options, painted=0.25, paint_from=3))
    assert all(isinstance(recipe.sample(2, i).crop, Tensor) for i in range(100))
    later = [recipe.sample(3, i) for i in range(100)]
    assert 10 < sum(isinstance(s.crop, Place) for s in later) < 40
    places = [s.crop for s in later if isinstance(s.crop, Place)]
    assert len(set(places)) == len(places)
    assert all(0 <= u < 1 for place in places for u in place)
    recipe.pool = [torch.full((3, 40, 40), 0.25).half()]
    assert torch.equal(recipe.batch(places[:2]), torch.full((2, 3, 32, 32), 0.25))


def test_the_sampler_can_be_sent_to_other_processes(options: TrainEncoderOptions) -> None:
    sampler = started(replace(options, painted=0.5, paint_from=1)).sample
    other = pickle.loads(pickle.dumps(sampler))

    def plain(found: Sample) -> tuple[Any, ...]:
        return (found.crop.tolist() if isinstance(found.crop, Tensor) else found.crop), found.offset

    for step, i in ((0, 0), (5, 1), (5, 0), (5, 2)):
        assert plain(other(step, i)) == plain(sampler(step, i))
    assert len({sampler(5, i).offset for i in range(4)}) == 1
    assert len({sampler(step, 0).offset for step in range(20)}) > 5


def test_a_pool_that_is_empty(options: TrainEncoderOptions) -> None:
    """A training without painted pictures is resumed with them, after the step at which the first are painted."""
    steps_of(options, 2)
    with pytest.raises(TrainingError, match=r"no painted pictures to train on.*the same --painted"):
        steps_of(replace(options, resume=True, painted=1.0, paint_from=1))


# -- the rest of the recipe -------------------------------------------------------------------------------------------


def test_the_loss_is_the_sum_over_the_samples(options: TrainEncoderOptions) -> None:
    """So parts of a batch add up to it, once there is no batch norm, which looks at the whole batch."""
    recipe = started(replace(options, batch_norm_steps=0, precision="float32"))
    samples = [recipe.sample(0, i) for i in range(3)]
    whole, figures = recipe.loss(samples)
    parts = [recipe.loss([s]) for s in samples]
    assert float(whole.detach()) == pytest.approx(sum(float(v.detach()) for v, _ in parts), rel=1e-4)
    for k in TARGETS:
        assert float(figures[k].detach()) == pytest.approx(sum(float(f[k].detach()) for _, f in parts), rel=1e-4)


def test_the_fit_of_the_heads_is_not_worse_than_the_training(options: TrainEncoderOptions) -> None:
    training = start_encoder_training(options)
    recipe = recipe_of(training)
    with closing(training.batches()) as batches:
        training.advance(batches)
    x = recipe.batch_for(distill.FIT, 0)
    targets = recipe.teacher.targets(x, (0, 0))

    def error(net: Any) -> float:
        features = net(x, TARGETS)
        total = 0.0
        for k in TARGETS:
            f = sample(net.heads[k](features[k]), k, (0, 0))
            total += ((f - recipe.teacher.mean[k]) / recipe.teacher.std[k] - targets[k]).square().mean().item()
        return total

    fitted = recipe.encoder()
    fit_heads(fitted, recipe.teacher, [recipe.batch_for(distill.FIT, i) for i in range(8)], recipe.compute)
    assert error(fitted) < error(recipe.encoder())


def test_rate_factor(options: TrainEncoderOptions) -> None:
    o = replace(options, steps=3000, batch_norm_steps=1000, fold_rate=0.2, warm_up=99)
    assert rate_factor(0, o) == pytest.approx(0.01)
    assert rate_factor(500, o) == pytest.approx(0.6, abs=0.01)
    assert rate_factor(999, o) == pytest.approx(0.2, abs=0.01)
    assert rate_factor(1000, o) == pytest.approx(0.002)
    assert rate_factor(1100, o) == pytest.approx(0.2, abs=0.01)
    assert rate_factor(2999, o) == pytest.approx(0, abs=0.01)
    assert all(0 <= rate_factor(i, o) <= 1 for i in range(0, 3000, 7))


def test_the_encoders_own_numbers(options: TrainEncoderOptions) -> None:
    o = TrainEncoderOptions(teacher=Path(), photos=(), paintings=(), out=Path())
    assert (o.steps, o.batch_norm_steps, o.crop, o.average, o.clip) == (30_000, 12_000, 160, 0, 0)


def test_a_loss_that_is_not_finite(options: TrainEncoderOptions) -> None:
    training = start_encoder_training(options)
    next(iter(training.recipe.net.parameters())).data.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"no longer finite at step 1; lower --rate \(now 0.01\)"):
        next(train(training))


def test_followed_on_the_terminal(options: TrainEncoderOptions, capfd: pytest.CaptureFixture[str]) -> None:
    """Validations are in the log lines and in the rows of their steps; a resumed training continues the rows."""
    follow_encoder(replace(options, steps=2, batch_norm_steps=10))
    follow_encoder(replace(options, steps=3, batch_norm_steps=10, resume=True))
    err = capfd.readouterr().err.splitlines()
    assert any(line.startswith("impasto: step 2: validation ") and " 5_1 " in line for line in err)
    assert err[0] == "impasto: 3 photographs, 3 paintings, on cpu, " + started(options).compute.precision
    assert err[-1] == f"impasto: {options.out}: trained"
    header, *rows = csv.reader(options.out.with_suffix(".csv").read_text().splitlines())
    assert header == ["step", "seconds", "loss", *TARGETS, "validation"]
    assert [r[0] for r in rows] == ["2", "3"]
    assert all(0 < float(v) < 100 for r in rows for v in r[2:])
    assert any(options.out.with_name("mine-log").iterdir())


def test_stopped_by_a_signal_it_writes_what_it_has(
    options: TrainEncoderOptions, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def paint(*args: Any) -> list[Tensor]:
        os.kill(os.getpid(), signal.SIGINT)  # in the third step
        return painted.paint(*args, steps=3)

    monkeypatch.setattr(distill, "paint", paint)
    options = replace(options, painted=0.5, paint_from=3, checkpoint_every=100)
    with pytest.raises(KeyboardInterrupt):
        follow_encoder(replace(options, steps=100))
    assert "impasto: stopped at step 3 of 100; continue with --resume" in capfd.readouterr().err
    assert load_encoder(options.out).config == COMPACT
    assert [s.step for s in steps_of(replace(options, resume=True))] == [4]


# -- the teacher ------------------------------------------------------------------------------------------------------


def test_the_teachers_first_map_is_folded_exactly(teacher_file: Path) -> None:
    """conv0 is a 1x1 map of the colours before reflecting 3x3 convolutions, and is computed in the plain way here."""
    import torch.nn.functional as F
    from safetensors.torch import load_file

    state, x = load_file(teacher_file), torch.rand(1, 3, 32, 36)
    f = F.conv2d(x, state["conv0.weight"], state["conv0.bias"])
    for block, depth in enumerate((2, 2, 4, 4, 1), start=1):
        for i in range(1, depth + 1):
            weights = state[f"conv{block}{i}.weight"], state[f"conv{block}{i}.bias"]
            f = F.relu(F.conv2d(F.pad(f, (1, 1, 1, 1), mode="reflect"), *weights))
            found = load_teacher(teacher_file)(x, (f"relu{block}_{i}",))[f"relu{block}_{i}"]
            assert torch.allclose(found, f, rtol=1e-3, atol=1e-4), (block, i)
        f = F.max_pool2d(f, 2)


def test_targets_are_standardised(options: TrainEncoderOptions) -> None:
    recipe = started(options)
    means, squares = [], []
    for i in range(40):
        targets = recipe.teacher.targets(recipe.batch_for(distill.UNITS, i), (0, 0))
        means.append(targets["relu2_1"].mean((0, 2, 3)))
        squares.append(targets["relu2_1"].square().mean((0, 2, 3)))
    live = recipe.teacher.live["relu2_1"].flatten().bool()
    assert torch.stack(means).mean(0).abs().max() < 0.05
    assert torch.allclose(torch.stack(squares).mean(0)[live], torch.ones(()), atol=0.05)


def test_channels_that_never_fire_are_left_out(teacher_file: Path) -> None:
    net = load_teacher(teacher_file)
    convolution = dict(net.convolutions())["conv4_2"]
    assert convolution.bias is not None
    convolution.bias.data[:3] = -1e6
    teacher = Teacher(net, CPU)
    teacher.calibrate(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(i)) for i in range(3))
    assert not teacher.live["relu4_2"].flatten()[:3].any()
    targets = teacher.targets(torch.rand(2, 3, 32, 32), (0, 0))["relu4_2"]
    assert (targets[:, :3] == 0).all()
    assert targets.isfinite().all()


# -- the pictures -----------------------------------------------------------------------------------------------------


def test_excluded_pictures_are_not_read(options: TrainEncoderOptions, tmp_path: Path) -> None:
    held_out = tmp_path / "held-out.txt"
    held_out.write_text("photos/deep/1.png\n\n  paintings/2.jpg  \nlisten.png\n")
    sampler = started(replace(options, exclude=held_out)).sample
    assert [Path(sampler.photos.name(i)).name for i in range(len(sampler.photos))] == ["0.png", "2.png"]
    assert [Path(sampler.paintings.name(i)).name for i in range(len(sampler.paintings))] == ["0.jpg", "1.jpg"]


# -- errors -----------------------------------------------------------------------------------------------------------


def damage(kind: str, options: TrainEncoderOptions, tmp_path: Path) -> TrainEncoderOptions:
    bad = tmp_path / "bad.safetensors"
    if kind == "no teacher":
        return replace(options, teacher=bad)
    if kind == "not a teacher":
        bad.write_bytes(b"nothing like it")
        return replace(options, teacher=bad)
    if kind == "another network":
        save_file({"conv11.weight": torch.zeros(4, 3, 3, 3)}, bad)
        return replace(options, teacher=bad)
    if kind == "no photos":
        return replace(options, photos=(tmp_path / "nowhere",))
    if kind == "no such list":
        return replace(options, exclude=tmp_path / "list.txt")
    if kind == "nowhere to write":
        return replace(options, out=options.teacher / "out.safetensors")
    folder = checkpoint_path(options.out)
    if kind != "no checkpoint":
        folder.mkdir()
    if kind == "damaged checkpoint":
        (folder / "state.pt").write_bytes(b"PK\x03\x04 no")
    elif kind == "empty checkpoint":
        (folder / "state.pt").touch()
    elif kind == "foreign checkpoint":
        save_checkpoint(folder, {"step": 3, "net": {"a": torch.ones(1)}, "average": {}, "optimisers": {}})
    elif kind == "other checkpoint":
        torch.save([1, 2], folder / "state.pt")
    return replace(options, resume=True)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no teacher", "bad.safetensors is not the pruned VGG-19 teacher"),
        ("not a teacher", "bad.safetensors is not the pruned VGG-19 teacher"),
        ("another network", "bad.safetensors is not the pruned VGG-19 teacher"),
        ("no photos", "nowhere does not exist; give a folder of pictures"),
        ("no such list", "cannot read --exclude .*list.txt"),
        ("nowhere to write", "cannot write .*out.safetensors"),
        ("no checkpoint", "cannot resume from .*mine.checkpoint: it is missing or damaged"),
        ("damaged checkpoint", "cannot resume from .*it is missing or damaged"),
        ("empty checkpoint", "cannot resume from .*it is missing or damaged"),
        ("foreign checkpoint", "cannot resume from .*it is from another training"),
        ("other checkpoint", "cannot resume from .*it is missing or damaged"),
    ],
)
def test_errors_come_before_the_first_step(
    options: TrainEncoderOptions, tmp_path: Path, kind: str, message: str
) -> None:
    with pytest.raises(TrainingError, match=message):
        follow_encoder(damage(kind, options, tmp_path))
    assert not options.out.exists()
    assert not options.out.with_suffix(".csv").exists()


def test_a_training_that_is_killed_keeps_its_last_checkpoint(options: TrainEncoderOptions) -> None:
    whole = figures_of(steps_of(options))
    training = start_encoder_training(replace(options, steps=100))
    with closing(training.batches()) as batches:
        for _ in range(2):
            training.advance(batches)
        training.save()
        training.advance(batches)
    assert load_encoder(options.out).config == COMPACT
    resumed = steps_of(replace(options, resume=True))
    assert [s.step for s in resumed] == [3, 4]
    assert figures_of(resumed)[0] == whole[2]


def test_several_processes_are_refused(options: TrainEncoderOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error comes before any process is started."""
    refusal = "the encoder is trained in one process.*leave out --devices and --nodes"
    for more in ({"devices": 2}, {"nodes": 2}):
        with pytest.raises(TrainingError, match=refusal):
            start_encoder_training(replace(options, **more))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainingError, match=refusal):
        start_encoder_training(options)


def test_a_checkpoint_holds_no_code(options: TrainEncoderOptions) -> None:
    steps_of(replace(options, steps=2))
    state = load_checkpoint(checkpoint_path(options.out))
    assert state.keys() == {"step", "net", "average", "optimisers", "recipe"}
    assert state["step"] == 2


def test_options_out_of_range(options: TrainEncoderOptions) -> None:
    with pytest.raises(OptionError, match="--paint-from is 0; it must be 1 or more"):
        replace(options, paint_from=0)
    with pytest.raises(OptionError, match="--crop is 16"):
        replace(options, crop=16)


def test_the_command(options: TrainEncoderOptions, capfd: pytest.CaptureFixture[str]) -> None:
    from impasto.cli import main

    call: Callable[[list[str]], int] = main
    arguments = ["train", "encoder", "--teacher", options.teacher, "--photos", *options.photos, "--paintings"]
    arguments += [*options.paintings, "--out", options.out, "--steps", 1, "--batch", 2, "--crop", 32]
    arguments += ["--fit-batches", 2, "--painted", 0, "--batch-norm-steps", 0]
    assert call([str(a) for a in arguments]) == 0, capfd.readouterr().err
    assert load_encoder(options.out).config == COMPACT
    assert call([str(a) for a in (*arguments, "--exclude", "nowhere.txt")]) == 1
    assert capfd.readouterr().err.splitlines()[-1].startswith("impasto: cannot read --exclude nowhere.txt")
