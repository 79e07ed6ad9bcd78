"""Training the compact encoder, in small: a made-up teacher, drawn pictures, a few steps, and every way it can fail."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from impasto.errors import TrainingError
from impasto.models.model_file import read_model_file
from impasto.models.vgg import COMPACT, STYLE_LAYERS
from impasto.models.weights import load_encoder
from impasto.options import TrainEncoderOptions
from impasto.tools.training import follow_encoder
from impasto.train import distill, painted
from impasto.train.checkpoint import STATE, checkpoint_path, load_checkpoint, save_checkpoint
from impasto.train.distill import Distillation, TrainStep, rate_factor, train_encoder
from impasto.train.teacher import TARGETS, Teacher, load_teacher

WIDTHS = {1: 4, 2: 5, 3: 6, 4: COMPACT.widths[3], 5: 6}  # relu4_2 is compared as it is, so its width is given


@pytest.fixture(scope="session")
def teacher_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in the layout of the pruned VGG-19, as narrow as can be."""
    g = torch.Generator().manual_seed(0)
    heads = {int(k[4]): v for k, v in COMPACT.heads.items() if k in STYLE_LAYERS}
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
    """A picture of smooth random colours."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 6, 3), dtype=np.uint8))
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse.resize(size, Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def options(tmp_path: Path, teacher_file: Path, monkeypatch: pytest.MonkeyPatch) -> TrainEncoderOptions:
    """Four steps of two crops; all that takes time is made small."""
    for i in range(3):
        draw(tmp_path / "photos" / "deep" / f"{i}.png", i)
        draw(tmp_path / "paintings" / f"{i}.jpg", 10 + i)
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
    )


def steps_of(options: TrainEncoderOptions) -> list[TrainStep]:
    return list(train_encoder(options))


# -- the run ----------------------------------------------------------------------------------------------------------


def test_a_whole_run(options: TrainEncoderOptions, tmp_path: Path) -> None:
    """With batch norm, folded half way; painted pictures; validations; what comes out is an encoder."""
    steps = steps_of(replace(options, painted=0.5, paint_from=1, paint_every=2, steps=6, batch_norm_steps=3, crop=40))
    assert [(s.step, s.total) for s in steps] == [(i, 6) for i in range(1, 7)]
    assert [s.step for s in steps if s.validation is not None] == [2, 4, 6]
    for step in steps:
        assert step.errors.keys() == set(TARGETS)
        assert all(0 < v < 100 for v in step.errors.values())
        assert step.validation is None or 0 < step.validation < 10
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
    run = Distillation(replace(options, batch=4, batch_norm_steps=100, steps=200, rate=0.05, head_rate=0.03))
    x = run.crops(999)
    targets = run.teacher.targets(x, (0, 0))

    def errors() -> dict[str, float]:
        with torch.no_grad():
            return {k: v.item() for k, v in run.student.errors(x, targets, (0, 0)).items()}

    before = errors()
    for _ in range(25):
        run.advance()
    after = errors()
    assert all(after[k] < 0.9 * before[k] for k in TARGETS), (before, after)


def test_folding_changes_nothing_but_the_batch_norm(options: TrainEncoderOptions) -> None:
    run = Distillation(options)
    for _ in range(2):
        run.advance()
    x = run.crops(7)
    before = run.encoder()(x, TARGETS)
    hints = {k: v.clone() for k, v in run.student.hints.state_dict().items()}
    assert run.student.vgg.config.batch_norm
    run.fold()
    assert not run.student.vgg.config.batch_norm
    for layer, f in run.encoder()(x, TARGETS).items():
        assert torch.allclose(f, before[layer], rtol=1e-3, atol=1e-3 * before[layer].abs().max().item()), layer
    assert all(torch.equal(hints[k], v) for k, v in run.student.hints.state_dict().items())


def test_the_same_seed_trains_the_same_network(options: TrainEncoderOptions) -> None:
    first = steps_of(options)
    weights = load_encoder(options.out).state_dict()
    torch.manual_seed(99)
    assert [s.errors for s in steps_of(options)] == [s.errors for s in first]
    assert all(torch.equal(v, weights[k]) for k, v in load_encoder(options.out).state_dict().items())
    assert [s.errors for s in steps_of(replace(options, seed=1))] != [s.errors for s in first]


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_resuming_goes_on_as_the_uninterrupted_run(options: TrainEncoderOptions, stop: int) -> None:
    """Before the batch norm is folded, just at it, and after: bit for bit, where no pictures are painted."""
    options = replace(options, checkpoint_every=1, validate_every=100)
    whole = steps_of(options)
    weights = load_encoder(options.out).state_dict()
    options.out.unlink()
    run = train_encoder(options)
    for _ in range(stop):
        next(run)
    # The checkpoint of a step is written before the step is shown, so this run may be ended here.
    resumed = steps_of(replace(options, resume=True))
    assert [s.step for s in resumed] == list(range(stop + 1, 5))
    assert [s.errors for s in resumed] == [s.errors for s in whole[stop:]]
    assert all(torch.equal(v, weights[k]) for k, v in load_encoder(options.out).state_dict().items())


def test_resuming_what_is_finished_does_nothing(options: TrainEncoderOptions) -> None:
    options = replace(options, steps=2)
    steps_of(options)
    assert steps_of(replace(options, resume=True)) == []


def test_without_batch_norm(options: TrainEncoderOptions) -> None:
    options = replace(options, batch_norm_steps=0, steps=2)
    run = Distillation(options)
    assert not run.student.vgg.config.batch_norm
    assert len(steps_of(options)) == 2
    assert load_encoder(options.out).config == COMPACT


def test_painted_pictures_enter_the_batches(options: TrainEncoderOptions) -> None:
    run = Distillation(replace(options, painted=1.0, paint_from=0, pool=4))
    for _ in range(3):
        run.paint()
    assert 0 < len(run.pool) <= 4
    assert all(x.shape[0] == 3 and min(x.shape[1:]) >= 32 for x in run.pool)
    run.pool = [torch.full((3, 40, 40), 0.25)]
    assert torch.equal(run.crops(0), torch.full((2, 3, 32, 32), 0.25))


def test_the_fit_of_the_heads_is_not_worse_than_the_training(options: TrainEncoderOptions) -> None:
    run = Distillation(replace(options, fit_batches=8))
    run.advance()
    x = run.crops(distill.FIT_STEP)
    targets = run.teacher.targets(x, (0, 0))

    def error(net: Any) -> float:
        features = net(x, TARGETS)
        total = 0.0
        for k in TARGETS:
            f = distill.sample(net.heads[k](features[k]), k, (0, 0))
            total += ((f - run.teacher.mean[k]) / run.teacher.std[k] - targets[k]).square().mean().item()
        return total

    assert error(run.fitted_encoder()) < error(run.encoder())


def test_rate_factor() -> None:
    o = TrainEncoderOptions(Path(), (), (), Path(), steps=3000, batch_norm_steps=1000, fold_rate=0.2)
    assert rate_factor(0, o) == pytest.approx(0.01)
    assert rate_factor(500, o) == pytest.approx(0.6, abs=0.01)
    assert rate_factor(999, o) == pytest.approx(0.2, abs=0.01)
    assert rate_factor(1100, o) == pytest.approx(0.2, abs=0.01)
    assert rate_factor(2999, o) == pytest.approx(0, abs=0.01)
    assert all(0 <= rate_factor(i, o) <= 1 for i in range(0, 3000, 7))


def test_a_loss_that_is_not_finite(options: TrainEncoderOptions) -> None:
    run = Distillation(options)
    next(iter(run.student.parameters())).data.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"no longer finite at step 1; lower --rate \(now 0.01\)"):
        run.advance()


def test_followed_on_the_terminal(options: TrainEncoderOptions, capfd: pytest.CaptureFixture[str]) -> None:
    follow_encoder(options)
    err = capfd.readouterr().err
    assert "step 2: gram/photo of pictures painted on it" in err
    assert err.splitlines()[-1] == f"impasto: {options.out}: trained"
    rows = options.out.with_suffix(".csv").read_text().splitlines()
    assert [r.split(",")[0] for r in rows] == ["2", "4"]
    assert all(len(r.split(",")) == 3 + len(TARGETS) for r in rows)


# -- the teacher ------------------------------------------------------------------------------------------------------


def test_the_teachers_first_map_is_folded_exactly(teacher_file: Path) -> None:
    """conv0, a 1x1 map of the colours, then 3x3 convolutions that reflect: here the plain way."""
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
    run = Distillation(options)
    means, squares = [], []
    for i in range(40):
        targets = run.teacher.targets(run.crops(distill.CALIBRATION_STEP + i), (0, 0))
        means.append(targets["relu2_1"].mean((0, 2, 3)))
        squares.append(targets["relu2_1"].square().mean((0, 2, 3)))
    live = run.teacher.live["relu2_1"].flatten().bool()
    assert torch.stack(means).mean(0).abs().max() < 0.05
    assert torch.allclose(torch.stack(squares).mean(0)[live], torch.ones(()), atol=0.05)


def test_channels_that_never_fire_are_left_out(teacher_file: Path) -> None:
    net = load_teacher(teacher_file)
    convolution = dict(net.convolutions())["conv4_2"]
    assert convolution.bias is not None
    convolution.bias.data[:3] = -1e6
    teacher = Teacher(net)
    teacher.calibrate(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(i)) for i in range(3))
    assert not teacher.live["relu4_2"].flatten()[:3].any()
    targets = teacher.targets(torch.rand(2, 3, 32, 32), (0, 0))["relu4_2"]
    assert (targets[:, :3] == 0).all()
    assert targets.isfinite().all()


# -- the pictures -----------------------------------------------------------------------------------------------------


def test_excluded_pictures_are_not_read(options: TrainEncoderOptions, tmp_path: Path) -> None:
    held_out = tmp_path / "held-out.txt"
    held_out.write_text("photos/deep/1.png\n\n  paintings/2.jpg  \nlisten.png\n")
    run = Distillation(replace(options, exclude=held_out))
    assert [Path(run.photos.name(i)).name for i in range(len(run.photos))] == ["0.png", "2.png"]
    assert [Path(run.paintings.name(i)).name for i in range(len(run.paintings))] == ["0.jpg", "1.jpg"]


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
    path = checkpoint_path(options.out)
    if kind == "foreign checkpoint":
        save_checkpoint(path, {"step": 3, "student": {"a": torch.ones(1)}, "optimisers": {}})
    elif kind != "no checkpoint":
        save_checkpoint(path, {"net": {"a": torch.ones(1)}})  # that of another training
    if kind == "damaged checkpoint":
        (path / STATE).write_bytes(b"PK\x03\x04 no")
    elif kind == "empty checkpoint":
        (path / STATE).write_bytes(b"")
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
        ("no checkpoint", "cannot resume from .*mine.checkpoint, which is missing or damaged"),
        ("damaged checkpoint", "cannot resume from .*which is missing or damaged"),
        ("empty checkpoint", "cannot resume from .*which is missing or damaged"),
        ("foreign checkpoint", "cannot resume from .*no checkpoint of this training"),
        ("other checkpoint", "cannot resume from .*no checkpoint of this training"),
    ],
)
def test_errors_come_at_the_call(options: TrainEncoderOptions, tmp_path: Path, kind: str, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        train_encoder(damage(kind, options, tmp_path))
    assert not options.out.exists()
    assert not options.out.with_suffix(".csv").exists()


def test_an_interrupted_run_keeps_its_last_checkpoint(options: TrainEncoderOptions) -> None:
    run: Iterator[TrainStep] = train_encoder(replace(options, steps=100))
    for _ in range(3):
        next(run)
    del run
    assert load_encoder(options.out).config == COMPACT
    assert [s.step for s in steps_of(replace(options, resume=True))] == [3, 4]


def test_a_checkpoint_holds_no_code(options: TrainEncoderOptions) -> None:
    steps_of(replace(options, steps=2))
    state = load_checkpoint(checkpoint_path(options.out))
    assert state.keys() == {"step", "student", "optimisers"}
    assert state["step"] == 2


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
