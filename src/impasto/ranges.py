"""Checking options against the types and ranges in their annotations."""

from dataclasses import dataclass, fields
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from .errors import OptionError

MAX_MEGAPIXELS = 200.0
"""Pictures larger than this are refused by default, before they are decoded."""


@dataclass(frozen=True)
class Range:
    """The allowed values of a numeric field, both ends included, and its unit."""

    low: float | None = None
    high: float | None = None
    unit: str = ""

    def __contains__(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.high is None:
            return f"{self.low:g} or more"
        return f"{self.low:g} to {self.high:g}" if self.low is not None else f"at most {self.high:g}"


TYPES: dict[Any, tuple[type, str]] = {
    bool: (bool, "True or False"),
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    str: (str, "text"),
    Path: (Path, "a Path"),
    NoneType: (NoneType, "None"),
}
"""Annotation -> the class of its values, which includes NumPy's numbers, and its name in messages."""


def check_ranges(options: Any) -> None:
    """Raise OptionError for the first field of a dataclass whose value does not fit its type or `Range`."""
    hints = get_type_hints(type(options), include_extras=True)
    for field in fields(options):
        hint = hints[field.name]
        hint, *notes = get_args(hint) if get_origin(hint) is Annotated else [hint]
        name, value = "--" + field.name.replace("_", "-"), getattr(options, field.name)
        if not _fits(value, hint):
            raise OptionError(f"{name} is {value!r}; it must be {_type_name(hint)}")
        values = value if isinstance(value, tuple) else (value,)
        for limits in (n for n in notes if isinstance(n, Range)):
            for v in values:
                if isinstance(v, Real) and (v != v or float(v) not in limits):
                    raise OptionError(f"{name} is {v:g}; it must be {limits}")


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (Union, UnionType):
        return any(_fits(value, a) for a in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(v, arguments[0]) for v in value)
    return isinstance(value, TYPES[hint][0]) and (hint is bool or not isinstance(value, bool))


def _type_name(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(map(repr, arguments))
    if origin in (Union, UnionType):
        return " or ".join(map(_type_name, arguments))
    return f"a tuple, each {_type_name(arguments[0])}" if origin is tuple else TYPES[hint][1]
