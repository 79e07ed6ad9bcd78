"""What visitors can set follows from the options' annotations, and can be turned into a command line."""

import shlex
from dataclasses import fields
from typing import Any

import pytest

from impasto.errors import OptionError
from impasto.options import OutputOptions, StylizeOptions
from impasto.tools.web.controls import NOT_A_VISITORS, command_line, controls, given_options, options_of
from impasto.verbs import parse


def test_every_option_is_a_control_or_not_a_visitors() -> None:
    names = {f.name for f in fields(StylizeOptions)} | {f.name for f in fields(OutputOptions)}
    assert set(controls(StylizeOptions)) | set(controls(OutputOptions)) | NOT_A_VISITORS == names


def test_controls_say_what_the_options_say() -> None:
    size, start, strokes = (controls(StylizeOptions)[k] for k in ("size", "start", "style_scale"))
    assert (size.kind, size.low, size.high, size.unit, size.optional) == ("integer", 32, 65536, "px", True)
    assert size.help.startswith("Long side of the painting")
    assert start.kind == "choice"
    assert start.choices == ("auto", "content", "network", "blurred", "noise", "grey")
    assert (strokes.kind, strokes.low, strokes.high, strokes.flag) == ("text", 0.1, 8, "--style-scale")
    assert all(c.help and c.group for c in controls(StylizeOptions).values())


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, {}),
        (
            {"size": "64", "strength": "0.5", "iterations": "60,30"},
            {"size": 64, "strength": 0.5, "iterations": (60, 30)},
        ),
        (
            {"style_scale": "2", "style_weights": "2,1", "time": "2m"},
            {"style_scale": 2.0, "style_weights": (2, 1), "time": 120},
        ),
        (
            {"style_scale": 1.5, "size": 64.0, "quality": "draft", "strict_size": True},
            {"style_scale": 1.5, "size": 64, "quality": "draft", "strict_size": True},
        ),
        ({"size": "", "content_weight": None, "start": "noise"}, {"start": "noise"}),
    ],
)
def test_values_make_options(given: dict[str, Any], options: dict[str, Any]) -> None:
    assert options_of(given) == StylizeOptions(**options)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"model": "x"}, "there is no option 'model' here"),
        ({"device": "cpu"}, "there is no option 'device' here"),
        ({"start": "/etc/passwd"}, "--start is '/etc/passwd'; it must be 'auto' or 'content' or"),
        ({"start": "http://example.com/a.png"}, "it must be 'auto' or 'content' or"),
        ({"size": "many"}, "--size: 'many' is not a whole number"),
        ({"size": "64.5"}, "--size: '64.5' is not a whole number"),
        ({"size": "7"}, "--size is 7; it must be 32 to 65536"),
        ({"strength": "inf"}, "--strength is inf"),
        ({"style_weights": "a,b"}, "--style-weights: could not convert"),
        ({"time": "soon"}, "--time: 'soon' is not a time"),
        ({"quality": "perfect"}, "--quality is 'perfect'"),
        ({"style_loss": "swirl"}, "unknown name 'swirl'"),
    ],
)
def test_what_is_no_value(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        options_of(given)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"size": 512, "strength": 0.35, "style_scale": (0.5, 2.0), "style_weights": (2.0, 1.0), "keep_colours": 1.0},
        {"quality": "draft", "strict_size": True, "time": 90.5, "style_loss": "moments:2,nn", "start": "noise"},
        {"stroke_px": (8.0, 40.0), "style_weights": (2.0, 1.0)},
        {"iterations": (60, 30), "tv_weight": 0.125, "optimizer": "lbfgs", "seed": 2**40},
    ],
)
def test_the_command_line_means_the_same(changes: dict[str, Any]) -> None:
    options, output = StylizeOptions(**changes), OutputOptions(bits=16, jpeg_quality=90)
    line = command_line(
        "my photo.jpg", ("starry-night", "b.jpg"), options, output, regions=(("m.png", "udnie"),), mask="w.png"
    )
    program, *words = shlex.split(line)
    verb = parse(words)
    assert program == "impasto"
    assert (verb.content, verb.styles, verb.region, verb.mask) == (
        "my photo.jpg", ("starry-night", "b.jpg"), ("m.png=udnie",), "w.png",
    )  # fmt: skip
    assert verb.options == options
    assert verb.output == output


def test_of_default_options_nothing_is_written() -> None:
    assert given_options(StylizeOptions()) == {}
    assert command_line("a.jpg", ("udnie",), StylizeOptions(), OutputOptions()) == "impasto stylize a.jpg udnie"
