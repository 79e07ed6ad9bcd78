"""The HTTP interface of films: jobs at /v1/videos."""

from pathlib import Path
from typing import Annotated, Any, cast

from fastapi import APIRouter, Depends, File, Form, HTTPException, Request, Response, UploadFile
from starlette.responses import FileResponse

from ...errors import OptionError
from ...options import VideoOptions
from .engine import Engine
from .films import MEDIA_TYPES, FilmFormat, FilmJob, FilmRequest
from .forms import dependency, only_fields_of
from .http import NO_FILE, ascii_name
from .job_routes import JPEG, add_job_routes, created, finder, preview, submitted, view_of
from .replies import ERRORS, VideoView
from .uploads import Upload

FILMS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The painted film, or the painted frame.",
        "content": {m: {} for m in (*MEDIA_TYPES.values(), "image/png")},
    },
    206: {"description": "A part of it, if the request has a Range."},
    416: {"description": "The Range is not satisfiable."},
}
FIELDS = ("content", "again", "style", "style_file", "format", "frame")
"""Fields of the form that are not options."""
LATEST = 1e7
"""The largest time of a frame, in seconds."""

find = finder(FilmJob)


async def read(
    request: Request,
    content: Annotated[
        UploadFile, File(description="The film: MP4, MOV, MKV, WebM, AVI, MPEG, Ogg, FLV, GIF or animated WebP.")
    ] = NO_FILE,
    again: Annotated[
        str, Form(description="Instead of `content`: the id of an earlier job, whose film is used.", max_length=64)
    ] = "",
    style: Annotated[
        list[str], Form(description="Names of built-in styles; `file:1` is the first `style_file`.", max_length=8)
    ] = [],  # noqa: B006 - FastAPI copies it
    style_file: Annotated[
        list[UploadFile],
        File(description="Pictures or style files. All are used if no `style` is given.", max_length=8),
    ] = [],  # noqa: B006
    format: Annotated[FilmFormat, Form(description="Format of the painted film.")] = "mp4",  # noqa: A002
    frame: Annotated[
        float | None,
        Form(
            description="Paint only the frame at this time, in seconds, as a picture.",
            ge=0,
            le=LATEST,
            allow_inf_nan=False,
        ),
    ] = None,
) -> FilmRequest:
    """Read a film's request from a form. Raises OptionError if there is no film, or two."""
    if bool(again) == (content is not None):
        raise OptionError("give either the film as `content`, or an earlier job's id as `again`")
    source: Any = content.file if content is not None else None
    name = (content.filename or "") if content is not None else ""
    if again:
        earlier = find(again, request)
        source, name = earlier.film, earlier.film.name
    files = tuple([Upload(f.filename or "", await f.read()) for f in style_file])
    return FilmRequest(name, source, tuple(style), files, format, frame)


Read = Annotated[FilmRequest, Depends(read)]
Options = Annotated[VideoOptions, Depends(dependency(VideoOptions))]


Found = Annotated[FilmJob, Depends(find)]


def video_router(engine: Engine) -> APIRouter:
    """Return the routes for an engine, which must also be the application's `state.engine`."""
    routes = APIRouter(prefix="/v1/videos", responses=ERRORS)

    @routes.post(
        "", status_code=201, dependencies=[Depends(only_fields_of(FIELDS, VideoOptions))], **view_of(VideoView)
    )
    async def create_video(request: Request, wanted: Read, options: Options, response: Response) -> dict[str, Any]:
        """Put a film into the queue; or, with `frame`, the painting of one frame, to see how it looks."""
        return created(await submitted(engine.submit_film, wanted, options), "/v1/videos", engine, request, response)

    add_job_routes(routes, engine, "/{job_id}", find, VideoView, "film", "What is painted so far is not kept.")

    @routes.get("/{job_id}/frame", response_class=Response, responses=JPEG)
    async def video_frame(job: Found) -> Response:
        """Return the last painted frame, at most 1024 pixels a side."""
        return preview(job, "preview", "nothing is painted yet")

    @routes.get("/{job_id}/original", response_class=Response, responses=JPEG)
    async def video_original(job: Found) -> Response:
        """Return the frame as it was in the film, at most 1024 pixels a side, if only one frame is painted."""
        return preview(job, "photo", "there is no such frame")

    @routes.get("/{job_id}/result", responses=FILMS, response_class=FileResponse)
    async def video_result(job: Found) -> FileResponse:
        """Return the painted film with its sound, or the painted frame as a PNG. Parts can be asked for by Range."""
        if job.error:
            raise HTTPException(422, job.error)
        if not job.has_film:
            raise HTTPException(409, job.note or "the film is not finished; wait for its events")
        name = f'attachment; filename="{ascii_name(job.name)}"'
        return FileResponse(cast(Path, job.target), media_type=job.media_type, headers={"Content-Disposition": name})

    return routes
