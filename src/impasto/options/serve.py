"""How the studio is served: where it listens, and what a visitor may ask of it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from typing_extensions import Doc

from ..errors import OptionError
from ..ranges import Range, check_ranges
from .kinds import FILE, LARGEST_SIZE, LEAST_SIZE, Group

ADDRESS, LIMITS = Group("address"), Group("limits")


@dataclass(frozen=True)
class ServeOptions:
    """How the studio is served: where it listens, and what a visitor may ask of it."""

    host: Annotated[
        str, Doc("Address to listen on; 127.0.0.1 is this machine alone, 0.0.0.0 every network it is in."), ADDRESS
    ] = "127.0.0.1"
    port: Annotated[int, Doc("Port to listen on; 0 takes any that is free."), Range(0, 65535), ADDRESS] = 7860
    allow_host: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="NAME"),
        Doc("A name that browsers may call the server by, besides localhost and numeric addresses; any number."),
        ADDRESS,
    ] = ()
    api_key_file: Annotated[
        Path | None, FILE, Doc("A text file with the key that every request must then carry."), ADDRESS
    ] = None
    devices: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="DEVICE"),
        Doc("A device to paint on: `cpu`, `cuda`, `cuda:1`, `mps`; several paint side by side; the best if not given."),
        ADDRESS,
    ] = ()
    max_upload: Annotated[float, Doc("Most that one request may carry."), Range(0.001, 4096, "MB"), LIMITS] = 40.0
    max_megapixels: Annotated[
        float, Doc("Refuse larger pictures, before they are decoded."), Range(0.001, 1e4), LIMITS
    ] = 50.0
    max_size: Annotated[
        int, Doc("Most that a painting's long side may be."), Range(LEAST_SIZE, LARGEST_SIZE, "px"), LIMITS
    ] = 2048
    max_seconds: Annotated[
        float,
        Doc("Time after which a painting is stopped; what is painted by then is kept."),
        Range(1, 1e6, "s"),
        LIMITS,
    ] = 1800.0
    max_waiting: Annotated[int, Doc("Most paintings that may wait for their turn."), Range(1, 10_000), LIMITS] = 20
    keep: Annotated[int, Doc("Finished paintings that are kept for download."), Range(1, 100_000), LIMITS] = 100
    keep_minutes: Annotated[
        float, Doc("How long a finished painting is kept for download."), Range(0.01, 1e5, "min"), LIMITS
    ] = 60.0

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.host:
            raise OptionError("--host is empty; give an address, as 127.0.0.1")
