"""The HTTP interface of live painting: sessions at /v1/live."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, HTTPException, Query, Request, Response, UploadFile
from fastapi import Path as PathParameter
from starlette.concurrency import run_in_threadpool

from ...options import LiveOptions
from .controls import controls
from .engine import BusyError
from .forms import dependency, only_fields_of
from .job_routes import NO_CACHE, view_of
from .live import MOST_BYTES, BrowserSession, CameraSession, LiveFrame, LiveStage
from .replies import ERRORS, LiveView, StageView
from .uploads import Upload

PAINTED: dict[int | str, dict[str, Any]] = {
    200: {"description": "The painted frame, a JPEG.", "content": {"image/jpeg": {}}},
    204: {"description": "There is no painting: a newer frame came before it, or none came in time."},
}
FRAME = {
    "requestBody": {
        "required": True,
        "content": {f"image/{k}": {"schema": {"type": "string", "format": "binary"}} for k in ("jpeg", "png", "webp")},
    }
}
Styles = Annotated[
    list[str],
    Form(
        description="Names of built-in styles; `file:1` is the first `style_file`. Several are blended.", max_length=8
    ),
]
SessionId = Annotated[str, PathParameter(description="From POST /v1/live.", max_length=64)]
Options = Annotated[LiveOptions, Depends(dependency(LiveOptions))]


def find(session_id: SessionId, request: Request) -> BrowserSession | CameraSession:
    """Return the session that a path names. Responds with 404 if it has ended."""
    found = request.app.state.live.find(session_id)
    if found is None:
        raise HTTPException(404, "this session does not exist; it ends 15 seconds after its last frame")
    return found


Found = Annotated[Any, Depends(find)]


def live_router(stage: LiveStage) -> APIRouter:
    """Return the routes for a stage, which must also be the application's `state.live`."""
    routes = APIRouter(prefix="/v1/live", responses=ERRORS)
    view = view_of(LiveView)

    @routes.get("", response_model=StageView, response_model_exclude_none=True)
    async def get_stage() -> dict[str, Any]:
        """Return what a page begins with: styles and options, and this machine's camera if it is painted."""
        return stage.view()

    @routes.post(
        "", status_code=201, dependencies=[Depends(only_fields_of(("style", "style_file"), LiveOptions))], **view
    )
    async def create_session(
        request: Request,
        options: Options,
        response: Response,
        style: Styles = [],  # noqa: B006 - FastAPI copies it
        style_file: Annotated[list[UploadFile], File(description="Pictures or style files.", max_length=8)] = [],  # noqa: B006
    ) -> dict[str, Any]:
        """Begin to paint a camera, whose frames are then sent one by one. Ends 15 seconds after the last frame.

        Options that are not sent are those that the server was started with.
        """
        known = controls(LiveOptions)
        changes = {name: getattr(options, name) for name in await request.form() if name in known}
        files = [Upload(f.filename or "", await f.read()) for f in style_file]
        try:
            session = await run_in_threadpool(stage.begin, style, files, changes)
        except BusyError as error:
            raise HTTPException(429, str(error), {"Retry-After": "60"}) from error
        response.headers["Location"] = f"{request.scope['root_path']}/v1/live/{session.id}"
        return session.view()

    @routes.get("/{session_id}", **view)
    async def get_session(session: Found) -> dict[str, Any]:
        """Return what is painted, and how fast."""
        return session.view()

    @routes.post("/{session_id}", dependencies=[Depends(only_fields_of(("style", "strength", "stability")))], **view)
    async def change_session(
        session: Found,
        style: Styles = [],  # noqa: B006
        strength: Annotated[float | None, Form(ge=0, le=1.5, allow_inf_nan=False)] = None,
        stability: Annotated[float | None, Form(ge=0, le=1, allow_inf_nan=False)] = None,
    ) -> dict[str, Any]:
        """Change styles, strength or stability from the next frame on. What is not sent stays as it is."""
        await run_in_threadpool(session.painter.choose, style or None, strength, stability)
        return session.view()

    @routes.delete("/{session_id}", status_code=204)
    async def end_session(session: Found) -> None:
        """End a session."""
        stage.end(session)

    @routes.post("/{session_id}/frames", response_class=Response, responses=PAINTED, openapi_extra=FRAME)
    async def paint_frame(session: Found, request: Request) -> Response:
        """Paint a frame, a JPEG, PNG or WebP file in the body. The headers give the rate and the size to send next."""
        if not isinstance(session, BrowserSession):
            raise HTTPException(409, "this machine's camera takes no frames; begin a session with POST /v1/live")
        too_large = HTTPException(413, f"the frame is larger than {MOST_BYTES / 1e6:g} MB; send a smaller one")
        if int(request.headers.get("content-length", "0")) > MOST_BYTES:
            raise too_large
        if len(data := await request.body()) > MOST_BYTES:  # its length was not declared
            raise too_large
        return painted(await run_in_threadpool(session.paint, data))

    @routes.get("/{session_id}/frame", response_class=Response, responses=PAINTED)
    async def newest_frame(
        session: Found,
        after: Annotated[int, Query(description="Number of the last frame that was seen.", ge=0, le=2**53)] = 0,
    ) -> Response:
        """Wait for the next painting of this machine's camera."""
        if not isinstance(session, CameraSession):
            raise HTTPException(409, "this session's frames are painted when they are sent")
        return painted(await run_in_threadpool(session.wait, after))

    return routes


def painted(frame: LiveFrame | None) -> Response:
    """Return the response with a painted frame."""
    if frame is None:
        return Response(status_code=204)
    headers = {
        "Impasto-Number": str(frame.number),
        "Impasto-Rate": f"{frame.rate:.2f}",
        "Impasto-Side": str(frame.long_side),
        "Impasto-Lag": str(frame.lag),
    }
    return Response(frame.data, media_type="image/jpeg", headers={**NO_CACHE, **headers})
