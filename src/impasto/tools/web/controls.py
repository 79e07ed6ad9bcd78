"""Controls: the options that visitors can set, read from the options' annotations.

The page, the HTTP interface and the page's command line all use them. A control is a field of an options dataclass
with its help text, range, unit, group and choices. This module only adds which options visitors cannot set.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import tyro
from typing_extensions import Doc

from ...errors import OptionError
from ...options import STARTS, OutputOptions, StylizeOptions
from ...options.kinds import Group
from ...ranges import Range

NOT_A_VISITORS = frozenset(
    (
        *("model", "encoder", "device", "offline", "learn", "compile", "max_memory", "statistics"),
        *("max_megapixels", "compression", "pyramid"),
    )
)
"""Options that visitors cannot set: they name files, devices or the network, belong to the server, or are for pictures
that are too large for it."""
CHOICES: Mapping[type, Mapping[str, tuple[str, ...]]] = {StylizeOptions: {"start": STARTS}}
"""Choices of options that also take a file's path, which visitors cannot give."""
LONGEST_TEXT = 500
"""Maximum number of characters of an option."""

Kind = Literal["choice", "flag", "integer", "number", "text"]


@dataclass(frozen=True)
class Control:
    """One option that visitors can set.

    Parameters
    ----------
    name : str
        The field's name.
    kind : "choice", "flag", "integer", "number" or "text"
        Kind of value. Lists of numbers and times are text, written as on the command line.
    help, group, unit : str
        From the field's annotation.
    default : object
        The field's default.
    choices : tuple
        The possible values of a choice.
    low, high : float or None
        Minimum and maximum of a number.
    optional : bool
        Whether the value can be None.
    spec : tyro's PrimitiveConstructorSpec or None
        Reads and writes the value's text if it has a special form.
    """

    name: str
    kind: Kind
    help: str
    group: str
    default: Any
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    unit: str = ""
    optional: bool = False
    spec: Any = None

    @property
    def label(self) -> str:
        """The name as a label, with the unit."""
        return self.name.replace("_", " ").capitalize() + (f" ({self.unit})" if self.unit else "")

    @property
    def flag(self) -> str:
        """The name as a command line flag."""
        return "--" + self.name.replace("_", "-")

    def value(self, given: Any) -> Any:
        """Return the field's value for a visitor's input, text or the kind's own type. OptionError if it is neither."""
        if given is None or (isinstance(given, str) and not given.strip()):
            return self.default
        try:
            if self.spec is not None:
                found = self.spec.instance_from_str([str(given)])
                alone = isinstance(found, tuple) and len(found) == 1 and not isinstance(self.default, tuple)
                return found[0] if alone else found
            if self.kind == "integer":
                return int(given) if float(given) == int(given) else given
            if self.kind == "number":
                return float(given)
        except (ValueError, TypeError, OverflowError) as error:
            reason = str(error) if self.spec is not None else f"{given!r} is not {_NOUNS[self.kind]}"
            raise OptionError(f"{self.flag}: {reason}") from error
        if self.kind == "choice":
            found = next((c for c in self.choices if str(c) == str(given)), None)
            if found is None:
                raise OptionError(f"{self.flag} is {given!r}; it must be {' or '.join(map(repr, self.choices))}")
            return found
        return given

    def text(self, value: Any) -> str:
        """Return a value as text for the command line."""
        if value is None:
            return ""
        return self.spec.str_from_instance(value)[0] if self.spec is not None and value != () else _plain(value)


_NOUNS = {"integer": "a whole number", "number": "a number"}


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(_plain(v) for v in value)
    return f"{value:.12g}" if isinstance(value, float) else str(value)


@cache
def controls(options: type = StylizeOptions) -> dict[str, Control]:
    """Return the controls of an options dataclass by name, in the fields' order."""
    hints = get_type_hints(options, include_extras=True)
    return {
        f.name: _control(f.name, hints[f.name], f.default, CHOICES.get(options, {}))
        for f in fields(options)
        if f.name not in NOT_A_VISITORS
    }


def _control(name: str, hint: Any, default: Any, more: Mapping[str, tuple[str, ...]]) -> Control:
    kind, *notes = get_args(hint) if get_origin(hint) is Annotated else [hint]
    found: dict[type, Any] = {type(note): note for note in notes}
    limits, doc, group = found.get(Range, Range()), found.get(Doc), found.get(Group)
    spec = found.get(tyro.constructors.PrimitiveConstructorSpec)
    arguments = get_args(kind) if get_origin(kind) is not Literal else (kind,)
    plain = [a for a in arguments if a is not NoneType] or [kind]
    choices = more.get(name) or (get_args(plain[0]) if get_origin(plain[0]) is Literal else ())
    of_type: dict[Any, Kind] = {bool: "flag", int: "integer", float: "number"}
    return Control(
        name,
        "choice" if choices else "text" if spec is not None else of_type.get(plain[0], "text"),
        doc.documentation if doc else "",
        group.name if group else "output",
        default,
        choices,
        limits.low,
        limits.high,
        limits.unit,
        NoneType in arguments,
        spec,
    )


def options_of(values: Mapping[str, Any], options: type = StylizeOptions) -> Any:
    """Return the options from a visitor's values, with defaults for the rest.

    Raises
    ------
    OptionError
        For an invalid value, and for an option that visitors cannot set.
    """
    known = controls(options)
    for name in values:
        if name not in known:
            raise OptionError(f"there is no option {name!r} here")
    return options(**{name: known[name].value(given) for name, given in values.items()})


def given_options(options: Any) -> dict[str, str]:
    """Return the options that differ from the defaults: flag -> text for the command line, empty for a set flag."""
    found = {}
    for name, control in controls(type(options)).items():
        value = getattr(options, name)
        if value != control.default:
            found[control.flag] = "" if control.kind == "flag" else control.text(value)
    return found


def command_line(
    content: str,
    styles: tuple[str, ...],
    options: StylizeOptions,
    output: OutputOptions,
    *,
    regions: tuple[tuple[str, str], ...] = (),
    mask: str | None = None,
    out: str = "",
) -> str:
    """Return the shell command that makes the same painting. Files have their names without folders."""
    words = ["impasto", "stylize", content, *styles]
    for region_mask, style in regions:
        words += ["--region", f"{region_mask}={style}"]
    if mask is not None:
        words += ["--mask", mask]
    for name, text in {**given_options(options), **given_options(output)}.items():
        words += [name, text] if text else [name]
    words += ["-o", out] if out else []
    return shlex.join(words)
