"""How the studio is served: where it listens, and what a visitor may ask of it."""

import re
from dataclasses import dataclass
from ipaddress import ip_network
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
        Doc(
            "A name that browsers may call the server by, besides localhost and numeric addresses; with its port where "
            "a proxy listens on an unusual one; any number."
        ),
        ADDRESS,
    ] = ()
    root_path: Annotated[
        str,
        tyro.conf.arg(metavar="PATH"),
        Doc("The path that a proxy has the studio at, as `/paint`; the proxy may take it off or pass it on."),
        ADDRESS,
    ] = ""
    trusted_proxy: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="ADDRESS"),
        Doc(
            "A proxy whose X-Forwarded-Host, -Port and -Proto are believed: its address or network, `*` for all; any "
            "number. Nobody's are believed if not given."
        ),
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
        for name in self.allow_host:
            if not re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?", name):
                raise OptionError(f"--allow-host {name}: give a name alone, as example.org, or with its port")
        if not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)*/?", self.root_path):
            raise OptionError(
                f"--root-path {self.root_path}: give the path alone, as /paint; --allow-host names the host"
            )
        for proxy in self.trusted_proxy:
            try:
                ip_network("0.0.0.0" if proxy == "*" else proxy, strict=False)
            except ValueError as error:
                reason = "give an address or network, as 127.0.0.1 or 172.16.0.0/12"
                raise OptionError(f"--trusted-proxy {proxy}: {reason}") from error
