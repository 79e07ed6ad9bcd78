"""Make the page's widgets from the options' controls, with their labels and help texts."""

from collections.abc import Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from .controls import Control

WIDEST_SLIDER = 8.0
"""Ranges up to this width get a slider, wider ones a number field."""
SLIDER_STEP = 0.05
OPEN = "set by the quality and the photograph"
"""Placeholder of an optional number's field."""
WORDS = {"instant": "Instant", "draft": "Draft", "good": "Good", "best": "Best"}


def is_slider(control: Control) -> bool:
    """Return whether the control is a slider. For a list of numbers, the slider sets one number for all."""
    c = control
    return c.low is not None and c.high is not None and not c.optional and c.high - c.low <= WIDEST_SLIDER


def widget(control: Control, **changes: Any) -> Component:
    """Return the widget of a control.

    Parameters
    ----------
    control : Control
        The option's control.
    **changes
        Arguments of the widget to change.
    """
    c = control
    shared: dict[str, Any] = {
        "label": c.label,
        "info": c.help,
        "elem_id": f"option-{c.name.replace('_', '-')}",
        **changes,
    }
    if c.kind == "flag":
        return gr.Checkbox(bool(c.default), **shared)
    if c.kind == "choice":
        choices: Sequence[Any] = [("same as the photo" if v is None else str(v), str(v)) for v in c.choices]
        if c.optional:
            choices = [("default", ""), *choices]
        return gr.Dropdown(choices, value="" if c.default is None else str(c.default), **shared)
    if is_slider(c):
        assert c.low is not None and c.high is not None
        return gr.Slider(c.low, c.high, value=c.default, step=SLIDER_STEP, **shared)
    if c.kind in ("integer", "number") and not c.optional:
        return gr.Number(c.default, precision=0 if c.kind == "integer" else None, step=1, **shared)
    return gr.Textbox(
        c.text(c.default), max_length=500, max_lines=1, placeholder=OPEN if c.optional else None, **shared
    )


def shown(control: Control, value: Any) -> Any:
    """Return the widget's value for an option's value."""
    if is_slider(control):
        return value[0] if isinstance(value, tuple) else value
    if control.kind == "choice":
        return "" if value is None else str(value)
    if control.kind == "text" or (control.optional and control.kind in ("integer", "number")):
        return control.text(value)
    return value


def duration(seconds: float) -> str:
    """Return a duration in seconds as readable text."""
    if seconds < 1.5:
        return "a second"
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds < 10 else f"{round(seconds, -1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
