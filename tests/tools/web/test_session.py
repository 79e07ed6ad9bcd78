"""Tests of the page's widgets: they are made from the options, and converted back to them."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from impasto.errors import OptionError
from impasto.options import OutputOptions, ServeOptions, StylizeOptions
from impasto.tools.web.engine import Engine
from impasto.tools.web.session import Session, read_masks
from impasto.tools.web.widgets import duration, shown, widget

SESSION = Session(cast(Engine, SimpleNamespace(options=ServeOptions())))


@pytest.mark.parametrize(
    ("painting", "output"),
    [
        ({}, {}),
        ({"size": 300, "style_scale": 2.0, "strength": 0.5, "quality": "draft", "iterations": (3, 4)}, {"bits": 16}),
        ({"time": 30.0, "content_weight": 0.25, "strict_size": True, "start": "noise"}, {"jpeg_quality": 80}),
    ],
)
def test_from_options_to_widgets_and_back(painting: dict[str, Any], output: dict[str, Any]) -> None:
    """What a widget shows for an option is accepted by the library and has the same meaning."""
    options, written = StylizeOptions(**painting), OutputOptions(**output)
    both = {**options.to_dict(), **vars(written)}
    values = []
    for name, control in SESSION.controls.items():
        made: Any = widget(control)
        assert made.info == control.help
        values.append(made.preprocess(shown(control, both[name])))
    found, how = SESSION.options(values, (1.0, 1.0))
    assert found == options
    assert (how.bits, how.jpeg_quality) == (written.bits, written.jpeg_quality)
    weighed, _ = SESSION.options(values, (1.0, 0.5))
    assert weighed.style_weights == (1.0, 0.5)


@pytest.mark.parametrize("text", ["[]", "7", "{", '{"1": "x"}', '{"1": 7}', '{"1": "data:image/png;base64,AAAA"}'])
def test_masks_that_are_none(text: str) -> None:
    with pytest.raises(OptionError, match="the marked regions cannot be read"):
        read_masks(text)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "a second"), (7.4, "7 s"), (44, "40 s"), (600, "10 min"), (7200, "2.0 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
