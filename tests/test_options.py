"""Tests of how numbers, times and named weights are read from the command line."""

import json

import pytest

from impasto.errors import OptionError
from impasto.options import OptimizeOptions, named_weights
from impasto.options.kinds import list_of, list_of_bytes, parse_bytes, parse_counts, parse_numbers, parse_seconds


@pytest.mark.parametrize(
    ("text", "numbers"), [("2", (2.0,)), ("2,1", (2.0, 1.0)), ("0.5,1e-3,-4", (0.5, 0.001, -4.0)), ("1, 2", (1.0, 2.0))]
)
def test_numbers(text: str, numbers: tuple[float, ...]) -> None:
    assert parse_numbers([text]) == numbers


@pytest.mark.parametrize("text", ["", "one", "2,", ",1", "1,,2", "2;1", "2 1"])
def test_what_is_no_list_of_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="could not convert"):
        parse_numbers([text])


@pytest.mark.parametrize(("text", "counts"), [("300", 300), ("60,30", (60, 30)), ("1,2,3", (1, 2, 3)), ("-5", -5)])
def test_counts(text: str, counts: int | tuple[int, ...]) -> None:
    """One count is a number, several are a tuple. The parser accepts -5; the options check ranges."""
    assert parse_counts([text]) == counts


@pytest.mark.parametrize("text", ["", "1.5", "60,", "60,half", "1e3"])
def test_what_is_no_list_of_whole_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        parse_counts([text])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("30s", 30), ("2m", 120), ("1.5h", 5400), (".5m", 30), ("0.25", 0.25), ("0s", 0), (" 2m ", 120)],
)
def test_seconds(text: str, seconds: float) -> None:
    assert parse_seconds([text]) == seconds


@pytest.mark.parametrize("text", ["", "m", "-3s", "1:30", "2 m", "1h30m", "2min", "nan", "1e3", "1.", "٣s"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time; write it as 30s, 2m or 1h"):
        parse_seconds([text])


@pytest.mark.parametrize(
    ("text", "gigabytes"),
    [("4GB", 4), ("4 gb", 4), ("800MB", 0.8), ("800m", 0.8), ("1.5G", 1.5), (".5TB", 500), (" 2GB ", 2), ("5kb", 5e-6)],
)
def test_memory(text: str, gigabytes: float) -> None:
    assert parse_bytes([text]) == round(1e9 * gigabytes)
    assert parse_bytes(list_of_bytes(round(1e9 * gigabytes))) == round(1e9 * gigabytes)


@pytest.mark.parametrize("text", ["", "GB", "-4GB", "4", "4GiB", "4,5GB", "nan", "1e3"])
def test_what_is_no_memory(text: str) -> None:
    with pytest.raises(ValueError, match="is not an amount of memory; write it as 4GB or 800MB"):
        parse_bytes([text])


@pytest.mark.parametrize(
    ("value", "text"), [(300, "300"), ((60, 30), "60,30"), (1.0, "1"), ((0.5, 2.0), "0.5,2"), (90.0, "90")]
)
def test_numbers_are_shown_as_they_are_written(value: object, text: str) -> None:
    assert list_of(value) == [text]


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("nn", {"nn": 1.0}),
        ("moments:2,nn", {"moments": 2.0, "nn": 1.0}),
        (" moments : 0.5 , nn:1e-1", {"moments": 0.5, "nn": 0.1}),
        ("moments:0,nn:3", {"nn": 3.0}),  # a weight of zero is as if not named
    ],
)
def test_named_weights(text: str, weights: dict[str, float]) -> None:
    assert named_weights(text, "--x") == weights
    assert named_weights(text, "--x", ("gram", "moments", "nn")) == weights
    assert list(named_weights(text, "--x")) == list(weights)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "--x : '' is not of the form NAME or NAME:WEIGHT"),
        ("nn,", "--x nn,: '' is not of the form"),
        (":2", "--x :2: ':2' is not of the form"),
        ("nn:", "'nn:' is not of the form"),
        ("nn:two", "'nn:two' is not of the form"),
        ("nn:1:2", "'nn:1:2' is not of the form"),
        ("nn:-1", "'nn:-1' is not of the form"),
        ("nn:nan", "'nn:nan' is not of the form"),
        ("nn:inf", "'nn:inf' is not of the form"),
        ("nn,swirl", "--x nn,swirl: unknown name 'swirl'; choose from moments, nn"),
        ("nn,moments,nn:2", "--x nn,moments,nn:2: nn is given twice"),
        ("nn:0,moments:0", "--x nn:0,moments:0: at least one weight must be positive"),
    ],
)
def test_named_weights_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        named_weights(text, "--x", ("moments", "nn"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_known_names_any_will_do() -> None:
    """Without known names, any name is accepted: layers depend on the encoder, which options do not know."""
    assert named_weights("relu9_9:2", "--layers") == {"relu9_9": 2.0}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"iterations": (60, 30), "style_scale": (0.5, 2.0), "style_weights": (2.0, 1.0)},
        {"iterations": 40, "style_scale": 2.0, "style_loss": "moments:2,nn", "layers": "relu1_1:0.5,relu3_1"},
        {"time": 30.0, "strength": 0.25, "start": "noise", "optimizer": "lbfgs"},
    ],
)
def test_options_survive_a_record(changes: dict[str, object]) -> None:
    """Options come back from JSON unchanged: lists as tuples, and single numbers as numbers."""
    options = OptimizeOptions(**changes)  # type: ignore[arg-type]
    assert OptimizeOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options
