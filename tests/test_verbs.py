"""Tests of the parser: lists of numbers with commas or spaces, next to the names of pictures."""

import pytest

from impasto.verbs import join_key_frames, join_numbers, parse


@pytest.mark.parametrize(
    ("given", "joined"),
    [
        ([], []),
        (["stylize", "a.jpg", "b.jpg"], ["stylize", "a.jpg", "b.jpg"]),
        (["--style-weights", "2", "1"], ["--style-weights", "2,1"]),
        (["--style-weights", "2", "1", "0.5"], ["--style-weights", "2,1,0.5"]),
        (["--style-weights", "2,1"], ["--style-weights", "2,1"]),
        (["--style-weights", "2", "a.jpg", "1"], ["--style-weights", "2", "a.jpg", "1"]),
        (["--style-weights", "2", "1", "a.jpg", "3"], ["--style-weights", "2,1", "a.jpg", "3"]),
        (["--iterations", "60", "30", "--size", "64", "32"], ["--iterations", "60,30", "--size", "64", "32"]),
        (
            ["--iterations", "60", "30", "--style-scale", "1", "2"],
            ["--iterations", "60,30", "--style-scale", "1,2"],
        ),
        (["--iterations", "--style-scale", "1", "2"], ["--iterations", "--style-scale", "1,2"]),
        (["--stroke", "1", "2", "a.jpg"], ["--stroke", "1,2", "a.jpg"]),
        (["--style-weights", "-1", "1e3"], ["--style-weights", "-1,1e3"]),
        (["1", "2", "--seed", "3", "4"], ["1", "2", "--seed", "3", "4"]),
        (["--iterations"], ["--iterations"]),
    ],
)
def test_numbers_after_a_list_option_are_joined(given: list[str], joined: list[str]) -> None:
    assert join_numbers(given) == joined


def test_lists_and_times_on_the_command_line() -> None:
    verb = parse(
        ["stylize", "a.jpg", "b.jpg", "c.jpg", "--style-weights", "2", "1", "--style-scale", "0.5,2", "--time", "2m"]
    )
    assert (verb.content, verb.styles) == ("a.jpg", ("b.jpg", "c.jpg"))
    options = verb.options
    assert (options.style_weights, options.style_scale, options.time) == ((2.0, 1.0), (0.5, 2.0), 120.0)
    assert parse(["stylize", "a.jpg", "b.jpg", "--stroke", "0.5", "2"]).options.style_scale == (0.5, 2.0)
    assert parse(["stylize", "--stroke-px", "8", "40", "a.jpg", "b.jpg"]).options.stroke_px == (8.0, 40.0)
    verb = parse(["stylize", "--style-weights", "2", "1", "a.jpg", "b.jpg", "c.jpg", "--iterations", "60", "30"])
    assert (verb.content, verb.styles) == ("a.jpg", ("b.jpg", "c.jpg"))
    assert (verb.options.style_weights, verb.options.iterations) == ((2.0, 1.0), (60, 30))
    assert parse(["stylize", "a.jpg", "b.jpg", "--iterations", "60"]).options.iterations == 60


@pytest.mark.parametrize(
    "wrong", [["--iterations", "many"], ["--iterations", "1.5"], ["--style-scale", "big"], ["--time", "soon"]]
)
def test_what_is_no_number_is_wrong_usage(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["stylize", "a.jpg", "b.jpg", *wrong])
    assert caught.value.code == 2
    assert wrong[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "joined"),
    [
        (["--strength", "0s:0", "4s:1", "a.mp4"], ["--strength", "0s:0,4s:1", "a.mp4"]),
        (["--strength", "0.5", "a.mp4", "0s:x"], ["--strength", "0.5", "a.mp4", "0s:x"]),
        (["--styles-at", "0:a b.jpg", "1.5m:c", "-o", "d"], ["--styles-at", "0:a b.jpg,1.5m:c", "-o", "d"]),
        (["--strength"], ["--strength"]),
    ],
)
def test_key_frames_are_joined(given: list[str], joined: list[str]) -> None:
    assert join_key_frames(given) == joined


def test_key_frames_on_the_command_line() -> None:
    verb = parse(["video", "--strength", "0s:0", "4s:1", "a.mp4", "--styles-at", "0s:a,b.jpg", "8s:c"])
    assert verb.options.strengths == ((0.0, 0.0), (4.0, 1.0))
    assert verb.options.style_times == ((0.0, "a,b.jpg"), (8.0, "c"))
    verb = parse(["video", "--strength", "0.5", "a.mp4", "b.jpg"])
    assert (str(verb.film), verb.styles, verb.options.strengths) == ("a.mp4", ("b.jpg",), ((0.0, 0.5),))
