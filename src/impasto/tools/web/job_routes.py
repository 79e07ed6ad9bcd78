"""What every kind of job has in the HTTP interface: its state, its events, its previews, cancelling and removing it."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi import Path as PathParameter
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from .engine import BusyError, Engine, J
from .jobs import Job

LOOK_SECONDS = 0.1
"""Seconds between two checks of a watched job."""
SILENT_SECONDS = 15.0
"""Maximum seconds between events. Proxies close a silent connection, nginx after a minute."""
NO_CACHE = {"Cache-Control": "no-store"}
JPEG: dict[int | str, dict[str, Any]] = {200: {"description": "A JPEG.", "content": {"image/jpeg": {}}}}
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events.", "content": {"text/event-stream": {}}}
}
JobId = Annotated[str, PathParameter(description="From the POST request that created it.", max_length=64)]


def finder(kind: type[J], noun: str = "job") -> Callable[..., J]:
    """Return a dependency that finds the job of a kind that a path's `job_id` names, or responds with 404."""

    def find(job_id: JobId, request: Request) -> J:
        job = request.app.state.engine.find(job_id, kind)
        if job is None:
            raise HTTPException(404, f"this {noun} does not exist; it may have been removed")
        return job

    return find


async def submitted(submit: Callable[..., J], *arguments: Any) -> J:
    """Return the job that a method of the engine makes. Responds with 429 if the queue is full."""
    try:
        return await run_in_threadpool(submit, *arguments)
    except BusyError as error:
        raise HTTPException(429, str(error), {"Retry-After": "60"}) from error


def created(job: Job, at: str, engine: Engine, request: Request, response: Response) -> dict[str, Any]:
    """Return the state of a new job, and add its address below `at` to the response."""
    response.headers["Location"] = f"{request.scope['root_path']}{at}/{job.id}"
    return job.view(engine.place(job))


def view_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the arguments of a route that responds with a job's state."""
    return {"response_model": model, "response_model_exclude_none": True}


def add_job_routes(
    routes: APIRouter, engine: Engine, at: str, find: Callable[..., Job], model: type[BaseModel], noun: str, kept: str
) -> None:
    """Add the routes of one job.

    Parameters
    ----------
    routes : APIRouter
        Where to add them.
    at : str
        The job's path, with `{job_id}`.
    find : callable
        The dependency that finds the job.
    model : type
        Model of its state.
    noun, kept : str
        For the descriptions: what it is, and what cancelling does with what is painted so far.
    """

    @routes.get(at, summary=f"Get {noun}", description=f"Return a {noun}'s progress.", **view_of(model))
    async def get(job: Annotated[Job, Depends(find)]) -> dict[str, Any]:
        return job.view(engine.place(job))

    @routes.delete(
        at, status_code=204, summary=f"Delete {noun}", description=f"Stop a {noun} and remove it with its files."
    )
    async def delete(job: Annotated[Job, Depends(find)]) -> None:
        engine.remove(job)

    @routes.post(f"{at}/cancel", summary=f"Cancel {noun}", description=f"Stop a {noun}. {kept}", **view_of(model))
    async def cancel(job: Annotated[Job, Depends(find)]) -> dict[str, Any]:
        engine.cancel(job)
        return job.view(engine.place(job))

    @routes.get(
        f"{at}/events",
        response_class=StreamingResponse,
        responses=EVENTS,
        summary=f"Watch {noun}",
        description="Stream the state after each change, as server-sent events named after its status, until it ends.",
    )
    async def watch(job: Annotated[Job, Depends(find)]) -> StreamingResponse:
        return StreamingResponse(events(job, engine), media_type="text/event-stream", headers=NO_CACHE)


def preview(job: Job, name: Literal["photo", "preview"], missing: str) -> Response:
    """Return a job's photograph or last frame as a JPEG. Responds with 404 if there is none yet."""
    if not (data := job.shown(name)):
        raise HTTPException(404, missing)
    return Response(data, media_type="image/jpeg", headers=NO_CACHE)


async def events(job: Job, engine: Engine) -> AsyncIterator[str]:
    """Yield the job's states as server-sent events, at most ten per second. The `id` is the job's version."""
    seen, place, sent = -1, -1, time.monotonic()
    while True:
        ended = job.has_ended
        if (job.version, engine.place(job)) != (seen, place):
            seen, place = job.version, engine.place(job)
            sent = time.monotonic()
            yield f"event: {job.status}\nid: {seen}\ndata: {json.dumps(job.view(place))}\n\n"
        elif time.monotonic() - sent > SILENT_SECONDS:
            sent = time.monotonic()
            yield ": nothing new\n\n"
        if ended:
            return
        await asyncio.sleep(LOOK_SECONDS)
