"""Tests of the style files of exported networks."""

from pathlib import Path

import numpy as np

from impasto.export.styles import Style, write_style
from impasto.models.network import Network


def test_style_file_without_a_library(net: Network, styles: list[Style], tmp_path: Path) -> None:
    """After the header come the numbers of `affine`, then those of `colours`.

    The C++ and JavaScript programs rely on that.
    """
    path = tmp_path / "style.safetensors"
    write_style(styles[0], path, {})
    data = path.read_bytes()
    numbers = np.frombuffer(data[8 + int.from_bytes(data[:8], "little") :], "<f4")
    assert len(numbers) == net.layout.size + 12
    assert np.array_equal(numbers[:-12], styles[0].affine[0].numpy())
    assert np.array_equal(numbers[-12:], styles[0].colours.flatten().numpy())
