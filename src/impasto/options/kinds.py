"""Building blocks of options: parsers for the command line, display groups, named weights."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import tyro

from ..errors import OptionError

INT, NUMBER, BITS, FILE = (tyro.conf.arg(metavar=m) for m in ("INT", "NUMBER", "{8,16}", "FILE"))
"""How the help names the value of an optional field."""

LEAST_SIZE, LARGEST_SIZE = 32, 65536
"""Range of the long side of a picture, in pixels."""

SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
"""Unit of time -> seconds."""

BYTE_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
"""Unit of memory -> bytes."""


@dataclass(frozen=True)
class Group:
    """The group of controls in which a field is shown."""

    name: str


def parse_numbers(texts: list[str]) -> tuple[float, ...]:
    """Parse `2,1` as (2.0, 1.0). Raises ValueError, which the command line reports, if it is not a list of numbers."""
    return tuple(float(t) for t in texts[0].split(","))


def parse_counts(texts: list[str]) -> int | tuple[int, ...]:
    """Parse `300` as 300 and `60,30` as (60, 30). Raises ValueError if it is not a list of whole numbers."""
    counts = tuple(int(t) for t in texts[0].split(","))
    first, *more = counts
    return counts if more else first


def parse_seconds(texts: list[str]) -> float:
    """Parse `30`, `30s`, `2m` or `1.5h` as seconds. Raises ValueError for anything else."""
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)([smh]?)", texts[0].strip())
    if found is None:
        raise ValueError(f"{texts[0]!r} is not a time; write it as 30s, 2m or 1h")
    return float(found[1]) * SECONDS[found[2]]


def parse_bytes(texts: list[str]) -> int:
    """Parse `4GB` or `800MB` as bytes. Raises ValueError for anything else."""
    found = re.fullmatch(r"([0-9]*\.?[0-9]+) ?([KMGT]?B|[KMGT])", texts[0].strip().upper())
    if found is None:
        raise ValueError(f"{texts[0]!r} is not an amount of memory; write it as 4GB or 800MB")
    return round(float(found[1]) * BYTE_UNITS[found[2].rstrip("B") + "B"])


def list_of_bytes(value: object) -> list[str]:
    """Return a number of bytes in the form that the command line parses."""
    if not isinstance(value, int):
        return [str(value)]
    unit = next(u for u, n in reversed(BYTE_UNITS.items()) if value % n == 0)
    return [f"{value // BYTE_UNITS[unit]}{unit}"]


def list_of(value: object) -> list[str]:
    """Return a number or a tuple of numbers in the form that the command line parses."""
    values = value if isinstance(value, tuple) else (value,)
    return [",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in values)]


NUMBERS = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="NUMBER[,NUMBER...]",
    instance_from_str=parse_numbers,
    is_instance=lambda v: isinstance(v, tuple | float | int),
    str_from_instance=list_of,
)
COUNTS = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="INT[,INT...]",
    instance_from_str=parse_counts,
    is_instance=lambda v: v is None or isinstance(v, tuple | int),
    str_from_instance=list_of,
)
BYTES = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="MEMORY",
    instance_from_str=parse_bytes,
    is_instance=lambda v: v is None or isinstance(v, int),
    str_from_instance=list_of_bytes,
)
TIME = tyro.constructors.PrimitiveConstructorSpec(
    nargs=1,
    metavar="TIME",
    instance_from_str=parse_seconds,
    is_instance=lambda v: v is None or isinstance(v, float | int),
    str_from_instance=list_of,
)


def named_weights(text: str, option: str, known: Mapping[str, object] | tuple[str, ...] = ()) -> dict[str, float]:
    """Parse `moments:2,nn` as {"moments": 2.0, "nn": 1.0}.

    Parameters
    ----------
    text : str
        Names separated by commas, each followed by a colon and its weight, or without a weight for 1.
    option : str
        Name of the option in error messages.
    known : mapping or tuple of str
        The names allowed; any if empty.

    Returns
    -------
    dict
        Name -> weight; names with weight 0 are left out.

    Raises
    ------
    OptionError
        If a name is unknown or given twice, a weight is not a number or negative, or no weight is positive.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, colon, number = (p.strip() for p in part.partition(":"))
        try:
            weight = float(number) if colon else 1.0
        except ValueError:
            weight = math.nan
        if not (name and math.isfinite(weight) and weight >= 0):
            raise OptionError(f"{option} {text}: {part.strip()!r} is not of the form NAME or NAME:WEIGHT")
        if known and name not in known:
            raise OptionError(f"{option} {text}: unknown name {name!r}; choose from {', '.join(known)}")
        if name in found:
            raise OptionError(f"{option} {text}: {name} is given twice")
        found[name] = weight
    if not any(found.values()):
        raise OptionError(f"{option} {text}: at least one weight must be positive")
    return {k: w for k, w in found.items() if w}
