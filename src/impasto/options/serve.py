"""Options for serving the studio."""

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
    """Options for serving the studio: its address, and the limits on requests."""

    host: Annotated[
        str, Doc("Address to listen on: 127.0.0.1 for this machine only, 0.0.0.0 for all its networks."), ADDRESS
    ] = "127.0.0.1"
    port: Annotated[int, Doc("Port to listen on; 0 picks a free one."), Range(0, 65535), ADDRESS] = 7860
    allow_host: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="NAME"),
        Doc(
            "Host name that browsers may use, in addition to localhost and numeric addresses. Add the port if a proxy "
            "listens on an unusual one. Can be repeated."
        ),
        ADDRESS,
    ] = ()
    root_path: Annotated[
        str,
        tyro.conf.arg(metavar="PATH"),
        Doc("Path at which a proxy serves the studio, such as `/paint`. The proxy may strip it or pass it on."),
        ADDRESS,
    ] = ""
    trusted_proxy: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="ADDRESS"),
        Doc(
            "Address or network of a proxy whose X-Forwarded-Host, -Port and -Proto to trust; `*` trusts all. Can be "
            "repeated. Default: none."
        ),
        ADDRESS,
    ] = ()
    api_key_file: Annotated[
        Path | None, FILE, Doc("Text file with a key, which every request must then carry."), ADDRESS
    ] = None
    devices: Annotated[
        tuple[str, ...],
        tyro.conf.UseAppendAction,
        tyro.conf.arg(metavar="DEVICE"),
        Doc("Device to paint on: `cpu`, `cuda`, `cuda:1`, `mps`. Repeat it to paint in parallel. Default: the best."),
        ADDRESS,
    ] = ()
    max_upload: Annotated[float, Doc("Largest request body."), Range(0.001, 4096, "MB"), LIMITS] = 40.0
    max_megapixels: Annotated[float, Doc("Refuse larger pictures before decoding them."), Range(0.001, 1e4), LIMITS] = (
        50.0
    )
    max_size: Annotated[int, Doc("Largest long side of a painting."), Range(LEAST_SIZE, LARGEST_SIZE, "px"), LIMITS] = (
        2048
    )
    large_megapixels: Annotated[
        float,
        Doc(
            "Largest painting of a job beyond --max-size, made from file to file by one pass of the network; 0 allows "
            "none. Needs the extra `large`, and about 20 bytes per pixel in the folder for temporary files."
        ),
        Range(0, 1e4, "megapixels"),
        LIMITS,
    ] = 0.0
    max_film_upload: Annotated[float, Doc("Largest request body with a film."), Range(0.001, 65536, "MB"), LIMITS] = (
        500.0
    )
    max_film_megapixels: Annotated[float, Doc("Refuse films with larger frames."), Range(0.001, 1e4), LIMITS] = 9.0
    max_film_seconds: Annotated[float, Doc("Longest part of a film that is painted."), Range(0.1, 1e6, "s"), LIMITS] = (
        600.0
    )
    max_film_frames: Annotated[int, Doc("Maximum number of painted frames."), Range(1, 10_000_000), LIMITS] = 20_000
    max_live: Annotated[
        int, Doc("Maximum number of cameras painted live at the same time; 0 allows none."), Range(0, 1000), LIMITS
    ] = 2
    max_seconds: Annotated[
        float,
        Doc("Stop a painting after this time and keep the result so far."),
        Range(1, 1e6, "s"),
        LIMITS,
    ] = 1800.0
    max_waiting: Annotated[int, Doc("Maximum number of waiting paintings."), Range(1, 10_000), LIMITS] = 20
    max_batch: Annotated[
        int,
        Doc("Maximum number of paintings of one batch, which is a ZIP archive of photographs; 0 allows no batches."),
        Range(0, 100_000),
        LIMITS,
    ] = 100
    keep: Annotated[int, Doc("How many finished paintings to keep for download."), Range(1, 100_000), LIMITS] = 100
    keep_minutes: Annotated[
        float, Doc("How long to keep a finished painting for download."), Range(0.01, 1e5, "min"), LIMITS
    ] = 60.0

    def __post_init__(self) -> None:
        check_ranges(self)
        if not self.host:
            raise OptionError("--host is empty; give an address such as 127.0.0.1")
        for name in self.allow_host:
            if not re.fullmatch(r"([\w.-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?", name):
                raise OptionError(f"--allow-host {name}: give a host name such as example.org, or a name and port")
        if not re.fullmatch(r"(/[A-Za-z0-9_~-][A-Za-z0-9_.~-]*)*/?", self.root_path):
            raise OptionError(
                f"--root-path {self.root_path}: give only the path, such as /paint; --allow-host is for the host"
            )
        for proxy in self.trusted_proxy:
            try:
                ip_network("0.0.0.0" if proxy == "*" else proxy, strict=False)
            except ValueError as error:
                reason = "give an address or network such as 127.0.0.1 or 172.16.0.0/12"
                raise OptionError(f"--trusted-proxy {proxy}: {reason}") from error
