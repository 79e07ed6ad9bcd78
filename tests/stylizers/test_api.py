"""`impasto.stylize` and `impasto.load_stylizer` take any kind of picture and style.

They return the caller's own kind.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import impasto
from impasto.device import choose_compute
from impasto.errors import ImpastoError, OptionError, PictureError, StyleError, WeightsError
from impasto.image.picture import Picture
from impasto.image.write import write_image
from impasto.models.vgg import CONTENT_LAYER
from impasto.models.weights import load_encoder
from impasto.options import OptimizeOptions, OutputOptions, TrainEncoderOptions
from impasto.style import target as styles
from impasto.style.target import StyleTarget

QUICK: dict[str, Any] = {"size": 48, "iterations": 3}
SIZE = (32, 48)
Photo = Callable[[str, int], Tensor]


@pytest.fixture
def content(photo: Photo) -> Tensor:
    return photo("coffee", 48)


@pytest.fixture
def style(photo: Photo) -> Tensor:
    return photo("chelsea", 64)


@pytest.fixture
def painting(content: Tensor, style: Tensor) -> Tensor:
    return impasto.stylize(content, style, **QUICK)


@pytest.fixture
def a_builtin(tmp_path: Path, style: Tensor, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the name of a built-in style, and make it the only one."""
    folder = tmp_path / "styles"
    target = StyleTarget.of(style, load_encoder("compact"), choose_compute("cpu"), (48, 64))
    target.save(folder / ("cats-fur" + styles.SUFFIX))
    monkeypatch.setattr(styles, "FOLDER", folder)
    styles.load_builtin.cache_clear()
    yield "cats-fur"
    styles.load_builtin.cache_clear()


def levels(picture: Tensor) -> np.ndarray:
    return (picture[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)


# -- the kind of picture ----------------------------------------------------------------------------------------------


def test_tensors(content: Tensor, style: Tensor, painting: Tensor) -> None:
    assert content.shape == (1, 3, *SIZE)
    assert painting.shape == content.shape
    assert painting.dtype == torch.float32
    assert 0 <= painting.min() <= painting.max() <= 1
    assert (painting - content).abs().mean() > 0.02
    assert torch.equal(impasto.stylize(content[0], style[0], **QUICK), painting[0])
    double = impasto.stylize(content.double(), style, **QUICK)
    assert double.dtype == torch.float64
    assert torch.equal(double.float(), painting)
    byte = impasto.stylize((content * 255).round().to(torch.uint8), style, **QUICK)
    assert byte.dtype == torch.uint8
    assert (byte.float() / 255 - painting).abs().mean() < 0.01


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
def test_arrays(content: Tensor, style: Tensor, painting: Tensor, dtype: Any) -> None:
    whole = np.issubdtype(dtype, np.integer)
    white = np.iinfo(dtype).max if whole else 1
    array = (content[0].permute(1, 2, 0).numpy() * white).astype(dtype)
    before = array.copy()
    result = impasto.stylize(array, style, **QUICK)
    assert isinstance(result, np.ndarray)
    assert (result.dtype, result.shape) == (array.dtype, array.shape)
    assert np.abs(result.astype(np.float64) / white - painting[0].permute(1, 2, 0).numpy()).mean() < 0.01
    assert np.array_equal(array, before)


def test_a_grey_array_stays_grey(content: Tensor, style: Tensor) -> None:
    grey = levels(content).mean(2).astype(np.uint8)
    result = impasto.stylize(grey, style, **QUICK)
    assert (result.dtype, result.shape) == (np.uint8, SIZE)


def test_pil_images_paths_and_files(content: Tensor, style: Tensor, painting: Tensor, tmp_path: Path) -> None:
    image = Image.fromarray(levels(content))
    path = tmp_path / "photo.png"
    image.save(path)
    expected = impasto.stylize(image, style, **QUICK)
    assert isinstance(expected, Image.Image)
    assert (expected.mode, expected.size) == ("RGB", SIZE[::-1])
    assert np.abs(np.asarray(expected).astype(float) - levels(painting)).mean() < 2
    for kind in (path, str(path), io.BytesIO(path.read_bytes())):
        result = impasto.stylize(kind, style, **QUICK)
        assert isinstance(result, Image.Image)
        assert np.array_equal(np.asarray(result), np.asarray(expected))


def test_a_picture_keeps_what_is_known_of_it(photo_file: Callable[[str], Path], style: Tensor) -> None:
    read = impasto.read_image(photo_file("coffee"))
    result = impasto.stylize(read, style, **QUICK)
    assert isinstance(result, Picture)
    assert result.metadata == read.metadata
    assert result.size == SIZE


def test_alpha_is_carried_and_resized(content: Tensor, style: Tensor) -> None:
    alpha = np.zeros(SIZE, np.uint8)
    alpha[:, 24:] = 255
    array = np.concatenate([levels(content), alpha[:, :, None]], 2)
    result = impasto.stylize(array, style, **QUICK)
    assert np.array_equal(result[:, :, 3], alpha)
    large = impasto.stylize(Image.fromarray(array), style, size=96, iterations=1)
    assert (large.mode, large.size) == ("RGBA", (96, 64))
    shape = np.asarray(large)[:, :, 3]
    assert (shape[:, :44] == 0).all()
    assert (shape[:, 52:] == 255).all()


def test_without_a_size_it_is_the_photos(content: Tensor, style: Tensor) -> None:
    assert impasto.stylize(content, style, iterations=1).shape == content.shape
    assert impasto.stylize(content, style, iterations=1, scale=1.5).shape == (1, 3, 48, 72)


# -- the kind of style ------------------------------------------------------------------------------------------------


def test_styles_of_every_kind(content: Tensor, style: Tensor, painting: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "style.tiff"
    write_image(Picture(style), path, bits=16)
    encoder, compute = load_encoder("compact"), choose_compute()
    compute.network(encoder)
    target = StyleTarget.of(style, encoder, compute, (48,))
    target.save(tmp_path / "mine.style.safetensors")
    kinds = (style[0], style[0].permute(1, 2, 0).numpy(), path, str(path), target, tmp_path / "mine.style.safetensors")
    for kind in (*kinds, [style], (style,)):
        assert (impasto.stylize(content, kind, **QUICK) - painting).abs().mean() < 4e-3, type(kind)


def test_built_in_styles(content: Tensor, a_builtin: str, painting: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (impasto.stylize(content, a_builtin, **QUICK) - painting).abs().mean() < 4e-3
    with pytest.raises(StyleError, match=r"style .cat-fur. is neither .* built-in style; did you mean cats-fur\?"):
        impasto.stylize(content, "cat-fur")
    with pytest.raises(StyleError, match="`impasto styles` lists the built-in ones"):
        impasto.stylize(content, "zzzzzzz.jpg")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"style_loss": "nn"}, "--style-loss nn"),
        ({"histogram_weight": 1.0}, "--histogram-weight"),
        ({"match_palette": "histogram"}, "--match-palette"),
    ],
)
def test_what_needs_a_picture_is_refused_for_a_built_in_style(
    content: Tensor, a_builtin: str, changes: dict[str, Any], name: str
) -> None:
    message = f"^{name} needs the style's picture, and only its measurements were given; give the picture file$"
    with pytest.raises(OptionError, match=message):
        impasto.stylize(content, a_builtin, **changes, **QUICK)


def test_a_folder_of_a_styles_name_does_not_hide_it(
    content: Tensor, a_builtin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(a_builtin).mkdir()
    assert impasto.stylize(content, a_builtin, **QUICK).shape == content.shape


def test_several_styles(content: Tensor, style: Tensor, photo: Photo, painting: Tensor) -> None:
    rocket = photo("rocket", 64)
    mixed = impasto.stylize(content, [style, rocket], style_weights=[1, 0], **QUICK)
    assert torch.equal(mixed, painting)
    with pytest.raises(OptionError, match="3 --style-weights for 2 styles"):
        impasto.stylize(content, [style, rocket], style_weights=[1, 2, 3], **QUICK)


# -- load_stylizer and the options ------------------------------------------------------------------------------------


def test_a_stylizer_paints_many_pictures(content: Tensor, style: Tensor, painting: Tensor, photo: Photo) -> None:
    stylizer = impasto.load_stylizer(style, **QUICK)
    assert torch.equal(stylizer(content), painting)
    assert stylizer(photo("astronaut", 64)).shape == (1, 3, 48, 48)
    assert torch.equal(stylizer(content), painting)
    *_, step = stylizer.steps(content)
    assert torch.equal(step.image, painting)


def test_options_and_changes(content: Tensor, style: Tensor, painting: Tensor) -> None:
    options = impasto.OptimizeOptions(size=48, iterations=7)
    assert torch.equal(impasto.stylize(content, style, options, iterations=3), painting)
    assert torch.equal(impasto.stylize(content, style, replace(options, iterations=3)), painting)


def test_a_picture_to_start_from(content: Tensor, style: Tensor, tmp_path: Path) -> None:
    write_image(Picture(content), tmp_path / "start.tiff", bits=16)
    found = impasto.stylize(content, style, start=str(tmp_path / "start.tiff"), **QUICK, denoise=0, mottle=0)
    assert (found - impasto.stylize(content, style, start="content", **QUICK, denoise=0, mottle=0)).abs().mean() < 4e-3


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"iteration": 3}, OptionError, "there is no option 'iteration'; did you mean iterations"),
        ({"zzz": 3}, OptionError, "there is no option 'zzz'; impasto.StylizeOptions lists them"),
        ({"quality": "bst"}, OptionError, "--quality is 'bst'; it must be 'instant' or 'draft' or 'good' or 'best'"),
        ({"size": "large"}, OptionError, "--size is 'large'; it must be a whole number or None"),
        ({"size": 96.5}, OptionError, "--size is 96.5; it must be a whole number"),
        ({"size": True}, OptionError, "--size is True"),
        ({"size": 8}, OptionError, "--size is 8; it must be 32 to 65536"),
        ({"size": 64, "scale": 2}, OptionError, "--size and --scale cannot be combined"),
        ({"rate": 0}, OptionError, "--rate is 0"),
        ({"style_weight": float("nan")}, OptionError, "--style-weight is nan"),
        ({"style_weights": "ab"}, OptionError, "--style-weights is 'ab'; it must be a tuple, each a number"),
        ({"content_weight": 0, "style_weight": 0}, OptionError, "one must be positive"),
        ({"offline": 1}, OptionError, "--offline is 1; it must be True or False"),
        ({"encoder": "compct"}, WeightsError, "did you mean compact"),
        ({"encoder": "vgg19", "offline": True}, WeightsError, "vgg19"),
        ({"device": "toaster"}, OptionError, "--device toaster is not available here; try cpu"),
        ({"device": "meta"}, OptionError, "--device meta is not available here; try cpu"),
        ({"start": "nothing.jpg"}, PictureError, "nothing.jpg does not exist"),
    ],
)
def test_wrong_options(
    content: Tensor, style: Tensor, changes: dict[str, Any], error: type[ImpastoError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        impasto.stylize(content, style, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "style", "error"),
    [
        ("nothing.jpg", None, PictureError),
        (None, "nothing.jpg", StyleError),
        (3, None, OptionError),
        (None, 3, OptionError),
        (None, [], OptionError),
        (np.zeros((4, 4, 7)), None, OptionError),
        (torch.zeros(1, 3, 10, 10), None, OptionError),
        (None, "x" * 5000, StyleError),
        (None, "a\0b", StyleError),
    ],
)
def test_wrong_pictures(photo: Photo, content: Any, style: Any, error: type[ImpastoError]) -> None:
    with pytest.raises(error) as caught:
        impasto.stylize(
            photo("coffee", 48) if content is None else content, photo("chelsea", 48) if style is None else style
        )
    assert "\n" not in str(caught.value)


def test_numbers_of_numpy_are_numbers(content: Tensor, style: Tensor, painting: Tensor) -> None:
    sizes: Any = {"size": np.int64(48), "iterations": np.int32(3), "style_scale": np.float32(1)}
    assert torch.equal(impasto.stylize(content, style, **sizes), painting)


def test_options_as_plain_values() -> None:
    options = OptimizeOptions(style_weights=(1.0, 2.0), size=300, start="noise")
    values = options.to_dict()
    assert OptimizeOptions.from_dict({**values, "style_weights": [1.0, 2.0]}) == options
    with pytest.raises(OptionError, match="this version has no option brushes"):
        OptimizeOptions.from_dict({**values, "brushes": 3})


def test_the_other_options_are_checked_too() -> None:
    with pytest.raises(OptionError, match="--bits is 12; it must be 8 or 16 or None"):
        OutputOptions(bits=12)  # pyright: ignore[reportArgumentType]
    with pytest.raises(OptionError, match="--max-megapixels is inf"):
        OutputOptions(max_megapixels=float("inf"))
    with pytest.raises(OptionError, match="--photos is"):
        TrainEncoderOptions(teacher=Path("t"), photos=("a",), paintings=(), out=Path("o"))  # pyright: ignore[reportArgumentType]


def test_the_content_layer_is_not_needed_in_a_style(content: Tensor, a_builtin: str) -> None:
    assert CONTENT_LAYER not in styles.load_builtin(a_builtin).layers
