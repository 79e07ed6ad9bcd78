"""The HTTP interface. Its OpenAPI description is at /openapi.json, its documentation at /docs."""

import asyncio
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Depends, File, Form, HTTPException, Request, Response, UploadFile
from fastapi import Path as PathParameter
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from ...errors import ImpastoError, OptionError
from ...options import OutputOptions, StylizeOptions
from ...style.target import builtin_names, load_builtin
from .engine import Engine
from .forms import dependency, only_fields_of
from .job_routes import JPEG, LOOK_SECONDS, add_job_routes, created, finder, preview, submitted, view_of
from .jobs import PictureJob
from .large import large_file, tile_file
from .painter import encoded
from .replies import ERRORS, JobView, StyleView, refusal
from .uploads import Request as PaintRequest
from .uploads import Upload

FORMATS = {"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp", "tiff": "image/tiff", "avif": "image/avif"}
"""Format of a painting's file -> its media type."""
FIELDS = ("content", "style", "style_file", "region_mask", "region_style", "mask", "format")
"""Fields of the form that are not options."""
Format = Literal["png", "jpeg", "webp", "tiff", "avif"]
PICTURES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The painting's file.", "content": {m: {} for m in FORMATS.values()}}
}
NO_FILE = cast(UploadFile, None)
"""The default of an optional file, typed so that the OpenAPI description does not offer null."""
Place = Annotated[int, PathParameter(description="Counted from 0.", ge=0, le=100_000)]


async def read(
    content: Annotated[UploadFile, File(description="The photograph.")],
    style: Annotated[
        list[str], Form(description="Names of built-in styles; `file:1` is the first `style_file`.", max_length=8)
    ] = [],  # noqa: B006 - FastAPI copies it
    style_file: Annotated[
        list[UploadFile],
        File(description="Pictures or style files. All are used if no `style` is given.", max_length=8),
    ] = [],  # noqa: B006
    region_mask: Annotated[
        list[UploadFile], File(description="Masks, white or opaque inside a region.", max_length=8)
    ] = [],  # noqa: B006
    region_style: Annotated[
        list[str], Form(description="The regions' styles, as for `style`, in the order of the masks.", max_length=8)
    ] = [],  # noqa: B006
    mask: Annotated[
        UploadFile, File(description="Where to paint: white or opaque in this picture. The rest stays the photograph.")
    ] = NO_FILE,
) -> PaintRequest:
    """Read a painting's request from a form. Raises OptionError if the numbers of masks and regions' styles differ."""
    if len(region_mask) != len(region_style):
        raise OptionError(f"{len(region_mask)} region_mask and {len(region_style)} region_style; give one for each")

    async def upload(file: UploadFile) -> Upload:
        return Upload(file.filename or "", await file.read())

    return PaintRequest(
        await upload(content),
        tuple(style),
        tuple([await upload(f) for f in style_file]),
        tuple([(await upload(m), s) for m, s in zip(region_mask, region_style, strict=True)]),
        await upload(mask) if mask else None,
    )


Read = Annotated[PaintRequest, Depends(read)]
Options = Annotated[StylizeOptions, Depends(dependency(StylizeOptions))]
Output = Annotated[OutputOptions, Depends(dependency(OutputOptions))]


find = finder(PictureJob)
Found = Annotated[PictureJob, Depends(find)]


def router(engine: Engine) -> APIRouter:
    """Return the routes for an engine, which must also be the application's `state.engine`."""
    routes = APIRouter(prefix="/v1", responses=ERRORS)

    checked = [Depends(only_fields_of(FIELDS, StylizeOptions, OutputOptions))]

    async def submit(
        wanted: PaintRequest, options: StylizeOptions, output: OutputOptions, file_format: Format | None = None
    ) -> PictureJob:
        output = replace(output, max_megapixels=engine.options.max_megapixels)
        return await submitted(engine.submit, wanted, options, output, "", file_format)

    async def picture(job: PictureJob, file_format: Format, output: OutputOptions) -> Response:
        if job.error:
            raise HTTPException(422, job.error)
        headers = {"Content-Disposition": f'attachment; filename="{ascii_name(job.name)}.{file_format}"'}
        if job.large:
            path = await run_in_threadpool(large_file, job, file_format, output)
            return FileResponse(path, media_type=FORMATS[file_format], headers=headers)
        data = await run_in_threadpool(encoded, job, file_format, output)
        if job.note:
            headers["Impasto-Note"] = ascii_name(job.note)
        return Response(data, media_type=FORMATS[file_format], headers=headers)

    @routes.post("/stylize", responses=PICTURES, response_class=Response, dependencies=checked)
    async def stylize(
        request: Request,
        wanted: Read,
        options: Options,
        output: Output,
        format: Annotated[Format, Form(description="Format of the painting's file.")] = "png",  # noqa: A002
    ) -> Response:
        """Paint a photograph and return the painting. Closing the connection stops the work."""
        check_bits(format, output)
        job = await submit(wanted, options, output, format)
        try:
            while not job.has_ended:
                if await request.is_disconnected():
                    break
                await asyncio.sleep(LOOK_SECONDS)
            return await picture(job, format, output)
        finally:
            engine.remove(job)

    @routes.post("/jobs", status_code=201, dependencies=checked, **view_of(JobView))
    async def create_job(
        request: Request, wanted: Read, options: Options, output: Output, response: Response
    ) -> dict[str, Any]:
        """Put a painting into the queue."""
        return created(await submit(wanted, options, output), "/v1/jobs", engine, request, response)

    add_job_routes(routes, engine, "/jobs/{job_id}", find, JobView, "painting", "The picture so far is kept.")

    @routes.get("/jobs/{job_id}/frame", response_class=Response, responses=JPEG)
    async def job_frame(job: Found) -> Response:
        """Return the painting so far, at most 1024 pixels a side."""
        return preview(job, "preview", "nothing is painted yet")

    @routes.get("/jobs/{job_id}/photo", response_class=Response, responses=JPEG)
    async def job_photo(job: Found) -> Response:
        """Return the photograph upright and in sRGB, at most 1024 pixels a side, once painting has started."""
        return preview(job, "photo", "painting has not started yet")

    @routes.get(
        "/jobs/{job_id}/tiles/{level}/{column}/{row}",
        response_class=Response,
        responses={200: {"description": "A JPEG, or a PNG.", "content": {"image/jpeg": {}, "image/png": {}}}},
    )
    async def job_tile(job: Found, level: Place, column: Place, row: Place) -> Response:
        """Return a tile of a finished large painting, at most 254 pixels a side, with a pixel more at inner edges.

        The painting is halved, rounding up, from level ceil(log2(long side)) down to a single pixel at level 0, as in
        DeepZoom.
        """
        path = tile_file(job, level, column, row) if job.large and job.has_picture else None
        if path is None:
            raise HTTPException(404, "this tile does not exist")
        return FileResponse(path, headers={"Cache-Control": "private, max-age=3600"})

    @routes.get("/jobs/{job_id}/losses")
    async def job_losses(job: Found) -> list[dict[str, float]]:
        """Return the losses of each iteration so far. Very long paintings have only every second row, or fewer."""
        return list(job.rows)

    @routes.get("/jobs/{job_id}/result", responses=PICTURES, response_class=Response)
    async def job_result(
        job: Found,
        format: Format = "png",  # noqa: A002
        bits: Literal["8", "16"] | None = None,
    ) -> Response:
        """Return the painting in any supported format. Also works after cancel."""
        if not job.has_ended:
            raise HTTPException(409, "the painting is not finished; wait for its events, or cancel it to end it early")
        output = replace(job.paint.output, bits=cast(Any, int(bits)) if bits else job.paint.output.bits)
        check_bits(format, output)
        return await picture(job, format, output)

    @routes.get(
        "/jobs/{job_id}/record",
        response_class=Response,
        responses={200: {"description": "An archive.", "content": {"application/zip": {}}}},
    )
    async def job_record(job: Found) -> Response:
        """Return the painting's record as a ZIP archive: record.json, losses.csv, command.txt and the masks."""
        if not job.has_picture:
            raise HTTPException(409, "there is no painting yet, so there is no record")
        data = await run_in_threadpool(archive, job)
        name = f'attachment; filename="{ascii_name(job.name)}-record.zip"'
        return Response(data, media_type="application/zip", headers={"Content-Disposition": name})

    @routes.get("/styles", response_model=list[StyleView])
    def styles(request: Request) -> list[dict[str, str]]:
        """Return the built-in styles."""
        at = f"{request.scope['root_path']}/studio/thumbnails"
        return [{"name": n, "thumbnail": f"{at}/{n}.jpg", **load_builtin(n).about} for n in builtin_names()]

    return routes


def check_bits(file_format: Format, output: OutputOptions) -> None:
    """Raise OptionError if the format does not support the output's bits."""
    if output.bits == 16 and file_format not in ("png", "tiff"):
        raise OptionError(f"{file_format} has 8 bits per channel; for 16 bits choose png or tiff")


def ascii_name(text: str) -> str:
    """Return a text in ASCII without double quotes, for a header."""
    return text.encode("ascii", "replace").decode().replace('"', "'")


def archive(job: PictureJob) -> bytes:
    """Return the record of a job that has a painting as a ZIP archive."""
    rows = job.rows
    columns = list(rows[0]) if rows else []
    losses = [",".join(columns), *(",".join(f"{r[c]:.8g}" if c in r else "" for c in columns) for r in rows)]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("record.json", json.dumps(job.record, indent=2, ensure_ascii=False) + "\n")
        packed.writestr("losses.csv", "\n".join(losses) + "\n")
        packed.writestr("command.txt", job.command + "\n")
        for mask in [m for m, _ in job.paint.regions] + ([job.paint.mask] if job.paint.mask else []):
            packed.write(mask, Path(mask).name)
    return file.getvalue()


def install_errors(app: Any) -> None:
    """Make the application answer all errors and invalid requests with a one-line reason."""
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException as StarletteHTTPException

    @app.exception_handler(ImpastoError)
    async def ours(request: Request, error: ImpastoError) -> Response:
        return refusal(422, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        where = ".".join(str(p) for p in first.get("loc", ())[1:])
        return refusal(422, f"{where}: {first.get('msg', 'is not valid')}" if where else str(first.get("msg")))

    @app.exception_handler(StarletteHTTPException)
    async def plain(request: Request, error: StarletteHTTPException) -> Response:
        return refusal(error.status_code, str(error.detail), dict(error.headers or {}))
