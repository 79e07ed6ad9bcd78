"""Make the HTTP interface's forms from the options, with a field for each and its help, range and choices."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, cast

from fastapi import Form, Request

from ...errors import OptionError
from .controls import LONGEST_TEXT, Control, controls


def form_type(control: Control) -> Any:
    """Return the annotation of a control's form field."""
    numeric = control.kind in ("integer", "number")
    limits: dict[str, Any] = {"ge": control.low, "le": control.high} if numeric else {}
    if control.kind == "number":
        limits["allow_inf_nan"] = False
    if control.kind == "text":
        limits["max_length"] = LONGEST_TEXT
    kinds: dict[str, Any] = {"flag": bool, "integer": int, "number": float, "text": str}
    kind = cast(Any, Literal)[tuple(map(str, control.choices))] if control.kind == "choice" else kinds[control.kind]
    return Annotated[kind, Form(description=control.help, **limits)]


def form_default(control: Control) -> Any:
    """Return the default of a control's form field."""
    if control.default is None or control.kind not in ("text", "choice"):
        return "" if control.kind == "text" else control.default
    return control.text(control.default)


def dependency(options: type, **defaults: Any) -> Callable[..., Any]:
    """Return a FastAPI dependency that makes the options from a form. Its parameters are the controls.

    `defaults` replace those of the options.
    """
    known = {c.name: replace(c, default=defaults.get(c.name, c.default)) for c in controls(options).values()}

    def make(**values: Any) -> Any:
        return options(**{name: known[name].value(given) for name, given in values.items()})

    parameters = [
        inspect.Parameter(c.name, inspect.Parameter.KEYWORD_ONLY, default=form_default(c), annotation=form_type(c))
        for c in known.values()
    ]
    make.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess]
    return make


def only_fields_of(names: Sequence[str], *options: type) -> Callable[..., Any]:
    """Return a FastAPI dependency that raises OptionError for other fields, so that misspelt ones are not ignored.

    Parameters
    ----------
    names : sequence of str
        Fields that are not options.
    *options : type
        Options whose fields are known, too.
    """
    known = {*names, *(name for some in options for name in controls(some))}

    async def check(request: Request) -> None:
        for name in await request.form():
            if name not in known:
                raise OptionError(f"there is no field {name[:60]!r}; /docs lists them")

    return check
