"""The verb `batch`: paint many photographs."""

from dataclasses import asdict, dataclass, field
from typing import Annotated

import tyro
from typing_extensions import Doc

from ..options import INSTANT, BatchOptions, OutputOptions, PhotoOptions, StylizeOptions
from .arguments import Flat


@dataclass(frozen=True)
class Batch:
    """Paint many photographs: folders, globs, tables and tar files, on this machine or a cluster."""

    photos: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="PHOTOS [PHOTOS ...]", help_behavior_hint=""),
        Doc(
            "Pictures, folders (searched recursively), globs, tar files (WebDataset), addresses such as "
            "s3://bucket/photos, or CSV files with the columns photo, style, out and any options."
        ),
    ]
    out: Annotated[
        str,
        tyro.conf.arg(aliases=["-o"], metavar="DIR"),
        Doc("Where the paintings go: a folder, a .tar file, or an address. Existing paintings are not painted again."),
    ]
    style: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="STYLE [STYLE ...]"),
        Doc("Built-in styles, pictures, style files, folders or globs of them. Every photo is painted in each."),
    ] = ()
    batch: Annotated[BatchOptions, Flat] = field(default_factory=BatchOptions)
    options: Annotated[StylizeOptions, Flat] = INSTANT
    output: Annotated[PhotoOptions, Flat] = field(default_factory=PhotoOptions)

    def __call__(self) -> None:
        from ..batch.follow import BatchJob, paint_all
        from ..batch.plan import Request

        request = Request(self.photos, self.style, self.out, self.batch.name, self.batch.pairs)
        paint_all(BatchJob(request, self.options, OutputOptions(**asdict(self.output)), self.batch))
