"""The HTTP interface of batches: jobs at /v1/batches."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, HTTPException, Request, Response, UploadFile
from starlette.responses import FileResponse

from ...options import INSTANT, BatchOptions, OutputOptions, StylizeOptions
from .batches import BatchJob
from .engine import Engine
from .forms import dependency, only_fields_of
from .http import Output
from .job_routes import add_job_routes, created, finder, submitted, view_of
from .replies import ERRORS, BatchView
from .uploads import Request as PaintRequest
from .uploads import Upload

FIELDS = ("photos", "style", "style_file", "name")
"""Fields of the form that are not options."""


async def read(
    photos: Annotated[UploadFile, File(description="A ZIP archive of photographs.")],
    style: Annotated[
        list[str], Form(description="Styles as for a painting. Every photograph is painted in each.", max_length=8)
    ] = [],  # noqa: B006 - FastAPI copies it
    style_file: Annotated[
        list[UploadFile],
        File(description="Pictures or style files. All are used if no `style` is given.", max_length=8),
    ] = [],  # noqa: B006
) -> PaintRequest:
    """Read a batch's request from a form."""
    files = [Upload(f.filename or "", await f.read()) for f in style_file]
    return PaintRequest(Upload("photos.zip", await photos.read()), tuple(style), tuple(files))


Read = Annotated[PaintRequest, Depends(read)]
Options = Annotated[StylizeOptions, Depends(dependency(StylizeOptions, quality=INSTANT.quality))]
PATTERN = BatchOptions().name
Pattern = Annotated[str, Form(description="As `impasto batch --name`.", max_length=200)]
find = finder(BatchJob, "batch")
Found = Annotated[BatchJob, Depends(find)]


def batch_router(engine: Engine) -> APIRouter:
    """Return the routes for an engine, which must also be the application's `state.engine`."""
    routes = APIRouter(prefix="/v1", responses=ERRORS)

    @routes.post(
        "/batches",
        status_code=201,
        dependencies=[Depends(only_fields_of(FIELDS, StylizeOptions, OutputOptions))],
        **view_of(BatchView),
    )
    async def create_batch(
        request: Request,
        wanted: Read,
        options: Options,
        output: Output,
        response: Response,
        name: Pattern = PATTERN,
    ) -> dict[str, Any]:
        """Put a ZIP archive of photographs into the queue. A photograph that cannot be painted does not end it."""
        output = replace(output, max_megapixels=engine.options.max_megapixels)
        job = await submitted(engine.submit_batch, wanted, name, options, output)
        return created(job, "/v1/batches", engine, request, response)

    add_job_routes(routes, engine, "/batches/{job_id}", find, BatchView, "batch", "The paintings so far are kept.")

    @routes.get(
        "/batches/{job_id}/result",
        response_class=Response,
        responses={200: {"description": "An archive.", "content": {"application/zip": {}}}},
    )
    async def batch_result(job: Found) -> Response:
        """Return the paintings as a ZIP archive, with the report as `report.jsonl`. Also works after cancel."""
        if not job.has_ended:
            raise HTTPException(409, "the batch is not finished; wait for its events, or cancel it to end it early")
        if job.error:
            raise HTTPException(422, job.error)
        if not job.result.exists():
            raise HTTPException(409, "the batch was stopped before its first painting")
        headers = {"Content-Disposition": 'attachment; filename="paintings.zip"'}
        return FileResponse(job.result, media_type="application/zip", headers=headers)

    return routes
