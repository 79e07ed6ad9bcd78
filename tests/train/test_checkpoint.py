"""Checkpoints of trainings return what was saved, in files of limited size, and are complete at any moment."""

import os
import pickle
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pytest
import torch

from impasto.errors import TrainingError
from impasto.train import checkpoint
from impasto.train.checkpoint import STATE, checkpoint_path, load_checkpoint, save_checkpoint


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return checkpoint_path(tmp_path / "net.safetensors")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> int:
    """Limit files to 1000 bytes of tensors."""
    monkeypatch.setattr(checkpoint, "MOST_BYTES", 1000)
    return 1000


def numbers(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def equal(a: Any, b: Any) -> bool:
    """Return whether values and types are equal, tensors to the last bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and (a.dtype, a.shape) == (b.dtype, b.shape) and torch.equal(a, b)
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def test_it_is_beside_the_output() -> None:
    assert checkpoint_path(Path("here") / "net.safetensors") == Path("here") / "net.checkpoint"


def test_all_kinds_of_values(path: Path) -> None:
    state = {
        "step": 7,
        "rate": 0.125,
        "name": "net",
        "nothing": None,
        "yes": True,
        "list": [1, [2.5, numbers(3)], ()],
        "tuple": (numbers(2, 3), {"a": numbers(4)}),
        "numbers as keys": {0: numbers(1), 1: {"exp_avg": numbers(2)}},
        "single": torch.tensor(3.5),
        "empty": torch.zeros(0, 5),
        "types": [torch.arange(5), torch.tensor([True, False]), numbers(3).bfloat16(), numbers(3).double()],
        "parameter": torch.nn.Parameter(numbers(2)).data,
    }
    save_checkpoint(path, state)
    assert equal(load_checkpoint(path), state)


def test_any_order_in_memory(path: Path) -> None:
    """Views, transposed tensors and channels_last ones come back with their values in the right places."""
    x = numbers(2, 3, 4, 5)
    state = {"a": x.transpose(1, 3), "b": x[:, 1:, ::2], "c": x.contiguous(memory_format=torch.channels_last), "d": x}
    save_checkpoint(path, state)
    found = load_checkpoint(path)
    assert all(torch.equal(found[k], v) for k, v in state.items())
    assert sum(f.stat().st_size for f in path.iterdir()) < 4 * x.numel() * 4 + 20_000


@pytest.mark.parametrize("count", [1, 249, 250, 251, 500, 501, 5000])
def test_large_tensors_are_cut_into_pieces(path: Path, small: int, count: int) -> None:
    state = {"a": numbers(count), "b": [numbers(count, 2).t(), numbers(3)], "c": numbers(count).double()}
    save_checkpoint(path, state)
    assert equal(load_checkpoint(path), {**state, "b": [state["b"][0], state["b"][1]]})
    for file in path.glob("*-*.pt"):
        pieces = torch.load(file, weights_only=True)
        assert sum(p.numel() * p.element_size() for p in pieces) <= small


def test_files_stay_below_16_megabytes(path: Path) -> None:
    """Code hosts refuse larger files; tensors count together with everything around them."""
    save_checkpoint(path, {"large": torch.zeros(12_000_000), "many": [torch.zeros(10) for _ in range(2000)]})
    sizes = [f.stat().st_size for f in path.iterdir()]
    assert len(sizes) >= 5
    assert max(sizes) <= 16_000_000
    assert load_checkpoint(path)["large"].shape == (12_000_000,)


def test_the_next_one_takes_the_place_of_the_one_before(path: Path, small: int) -> None:
    for step in range(5):
        save_checkpoint(path, {"step": step, "net": numbers(3000 - 500 * step, seed=step)})
        assert load_checkpoint(path)["step"] == step
        assert len(list(path.iterdir())) == 1 + -(-4 * (3000 - 500 * step) // small)  # nothing is left behind


def interrupted(monkeypatch: pytest.MonkeyPatch, name: str, after: int) -> None:
    """Make torch.save fail half way after that many calls, or make os.replace fail."""
    if name == "replace":

        def replace(*_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "replace", replace)
        return
    save, left = torch.save, [after]

    def broken(value: Any, file: BinaryIO) -> None:
        if left[0] == 0:
            whole = BytesIO()
            save(value, whole)
            file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            raise KeyboardInterrupt
        left[0] -= 1
        save(value, file)

    monkeypatch.setattr(torch, "save", broken)


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize(("name", "after"), [("save", 0), ("save", 1), ("save", 3), ("save", 4), ("replace", 0)])
def test_interrupted_at_any_time_it_leaves_the_one_before(
    path: Path, small: int, name: str, after: int, times: int
) -> None:
    """This holds for any number of interruptions in a row, and the next checkpoint is complete."""
    before = {"step": 1, "net": numbers(1000)}
    save_checkpoint(path, before)
    for step in range(2, 2 + times):
        with pytest.MonkeyPatch.context() as patch:
            interrupted(patch, name, after)
            with pytest.raises(KeyboardInterrupt):
                save_checkpoint(path, {"step": step, "net": numbers(1000, seed=step)})
        assert equal(load_checkpoint(path), before)
    after_all = {"step": 9, "net": numbers(1000, seed=9)}
    save_checkpoint(path, after_all)
    assert equal(load_checkpoint(path), after_all)
    assert len(list(path.iterdir())) == 5


def test_interrupted_before_the_old_files_are_removed_it_is_the_new_one(
    path: Path, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(path, {"step": 1, "net": numbers(1000)})

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    for step in (2, 3):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", fail)
            with pytest.raises(KeyboardInterrupt):
                save_checkpoint(path, {"step": step, "net": numbers(1000, seed=step)})
        assert equal(load_checkpoint(path), {"step": step, "net": numbers(1000, seed=step)})
    save_checkpoint(path, {"step": 4})
    assert load_checkpoint(path) == {"step": 4}


def cut(path: Path, name: str, share: float) -> None:
    file = path / name
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: cut(path, STATE, 0),
        lambda path: cut(path, STATE, 0.5),
        lambda path: cut(path, "a-000.pt", 0.9),
        lambda path: (path / "a-001.pt").unlink(),
        lambda path: (path / STATE).unlink(),
        lambda path: (path / STATE).write_bytes(b"no checkpoint"),
        lambda path: torch.save([1, 2], path / STATE),
        lambda path: torch.save({"step": 1}, path / STATE),
        lambda path: torch.save([], path / "a-001.pt"),
        lambda path: torch.save(torch.zeros(3), path / "a-001.pt"),
    ],
)
def test_a_damaged_one(path: Path, small: int, damage: Callable[[Path], Any]) -> None:
    save_checkpoint(path, {"step": 1, "net": numbers(700)})
    damage(path)
    with pytest.raises(TrainingError, match="cannot resume from") as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)


def test_none_at_all(path: Path) -> None:
    with pytest.raises(TrainingError, match=r"cannot resume from .*net\.checkpoint: it is missing or damaged"):
        load_checkpoint(path)
    path.write_bytes(b"a file where the folder should be")
    with pytest.raises(TrainingError, match="missing or damaged"):
        load_checkpoint(path)


class Evil:
    """An object that would create a file when it is unpickled."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.target),))


@pytest.mark.parametrize("name", [STATE, "a-000.pt"])
@pytest.mark.parametrize("plain", [False, True], ids=["torch.save", "pickle"])
def test_no_code_is_run(path: Path, tmp_path: Path, name: str, plain: bool) -> None:
    save_checkpoint(path, {"net": numbers(3)})
    evil: Any = Evil(tmp_path / "made")
    if plain:
        (path / name).write_bytes(pickle.dumps(evil, protocol=2))
    else:
        torch.save({"files": evil, "state": evil}, path / name)
    with pytest.raises(TrainingError, match="cannot resume from"):
        load_checkpoint(path)
    assert not (tmp_path / "made").exists()


def test_files_are_looked_for_in_the_folder_alone(path: Path, tmp_path: Path) -> None:
    """A name that leads out of the folder is taken as a name inside it."""
    save_checkpoint(path, {"net": numbers(3)})
    torch.save([numbers(3)], tmp_path / "outside.pt")
    state = torch.load(path / STATE, weights_only=True)
    torch.save({**state, "files": [str(tmp_path / "outside.pt")]}, path / STATE)
    with pytest.raises(TrainingError, match="missing or damaged"):
        load_checkpoint(path)
