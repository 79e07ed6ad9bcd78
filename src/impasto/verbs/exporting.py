"""The verb `export`: write the network as a file that runs without Impasto."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro
from typing_extensions import Doc

from ..options import ExportOptions
from .arguments import OUT, Flat
from .show import say


@dataclass(frozen=True)
class Export:
    """Write the network as a file that other programs run without Impasto and without Python."""

    baked: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(name="style", metavar="[STYLE ...]", help_behavior_hint=""),
        Doc(
            "The style of all paintings: a picture, a style file or a built-in style (see `impasto styles`). Several "
            "are blended. If not given, the style is an input of the file."
        ),
    ] = ()
    out: Annotated[
        Path | None,
        OUT,
        Doc(
            "The file to write, or a folder. An existing file is replaced. The default name is impasto.onnx, "
            "impasto.xml or impasto.pt2. With `--format web`, the page's folder, site by default."
        ),
    ] = None
    styles: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="STYLE [STYLE ...]"),
        Doc(
            "Write these styles, too, each as a small file for a network that takes the style as input. `all`: the "
            "built-in ones. They go into a folder next to the file, with its name and the suffix .styles."
        ),
    ] = ()
    options: Annotated[ExportOptions, Flat] = field(default_factory=ExportOptions)

    def __call__(self) -> None:
        from ..export.job import export
        from ..tools.progress import start_logging

        start_logging()
        if self.options.format == "web":
            self.write_page()
            return
        exported = export(self.baked, self.out, self.options, self.styles)
        say(str(exported.path))
        for path in exported.styles:
            say(str(path))

    def write_page(self) -> None:
        from ..errors import OptionError
        from ..export.web.site import write_site
        from ..tools.progress import download_bar

        if self.baked or self.styles:
            raise OptionError("a page has all built-in styles; leave out STYLE and --styles with --format web")
        with download_bar("fetching onnxruntime-web (MB)") as show:
            site = write_site(self.out, self.options, show)
        for name, size in site.sizes.items():
            say(f"{size:>10,}  {name}")
        say(f"{sum(site.sizes.values()):>10,}  {site.folder}")
