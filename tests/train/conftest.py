"""What the tests of training share: a folder of photographs, and a training in small."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from impasto.options import TrainFeedforwardOptions
from impasto.train.loop import Training


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures of smooth random colours, in a tree."""
    folder = tmp_path_factory.mktemp("photos")
    for i in range(6):
        rng = np.random.default_rng(i)
        path = folder / f"tree{i % 2}" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((160, 120), Image.Resampling.BICUBIC).save(path)
    return folder


@pytest.fixture(scope="session")
def measured() -> Callable[[Training], dict[str, float]]:
    """`measured(training)`: the sums of the loss's terms over four batches, always the same, by the averaged weights.

    A step's own figures do not tell whether a network learns: its few pictures are easier or harder by chance.
    """

    def measure(training: Training) -> dict[str, float]:
        sums: dict[str, float] = {}
        with training.averaged(), torch.no_grad():
            for step in range(1000, 1004):
                _, found = training.recipe.loss(step, range(training.options.batch))
                for k, v in found.items():
                    if v.numel() == 1:
                        sums[k] = sums.get(k, 0.0) + v.item()
        return sums

    return measure


@pytest.fixture
def brief(photos: Path, tmp_path: Path) -> Callable[..., TrainFeedforwardOptions]:
    """Options of a training of seconds."""

    def options(**changes: Any) -> TrainFeedforwardOptions:
        values: dict[str, Any] = {
            "styles": ("starry-night", "great-wave"),
            "photos": (photos,),
            "out": tmp_path / "net.safetensors",
            "steps": 6,
            "batch": 4,
            "crop": 64,
            "width": 4,
            "blocks": 1,
            "warm_up": 2,
            "identity": 0.3,
            "checkpoint_every": 2,
            "sample_every": 0,
            "device": "cpu",
            "precision": "float32",
        }
        return TrainFeedforwardOptions(**{**values, **changes})

    return options
