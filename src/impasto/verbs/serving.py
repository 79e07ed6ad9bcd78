"""The verb `serve`: run the studio, a page in the browser and an HTTP interface."""

from dataclasses import dataclass, field
from typing import Annotated

from ..options import ServeOptions
from .arguments import Flat
from .show import say


@dataclass(frozen=True)
class Serve:
    """Run the studio: a page for the browser and an HTTP interface for programs."""

    options: Annotated[ServeOptions, Flat] = field(default_factory=ServeOptions)

    def __call__(self) -> None:
        from ..tools.progress import start_logging
        from ..tools.web.extra import prepare

        prepare()
        start_logging()
        from ..tools.web.server import serve

        serve(self.options, say)
