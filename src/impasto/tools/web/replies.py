"""Replies of the HTTP interface: the schemas of its JSON, and one-line errors."""

from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse


class Refusal(BaseModel):
    """Why a request was refused."""

    error: str = Field(description="One line that says what is wrong and what to do.")


class StyleView(BaseModel):
    """A built-in style."""

    name: str = Field(description="The value for `style`.")
    title: str = ""
    artist: str = ""
    date: str = ""
    licence: str = ""
    source: str = ""
    thumbnail: str = Field(description="Path of a thumbnail painted in the style.")


class JobView(BaseModel):
    """A painting's progress."""

    id: str
    status: Literal["queued", "painting", "done", "stopped", "failed"]
    seconds: float = Field(description="Painting time so far.")
    frames: int = Field(description="Number of frames so far. The newest is at /v1/jobs/{id}/frame.")
    place: int | None = Field(None, description="Position in the queue, counted from 1.")
    iteration: int | None = None
    total: int | None = Field(None, description="Total number of iterations.")
    scale: list[int] | None = Field(None, description="Width and height of the current scale in pixels.")
    losses: dict[str, float] | None = None
    seconds_left: float | None = None
    size: list[int] | None = Field(None, description="Width and height of the finished painting in pixels.")
    tiles: bool | None = Field(None, description="Whether the finished painting has tiles at /v1/jobs/{id}/tiles.")
    note: str | None = Field(None, description="Why it ended early.")
    error: str | None = Field(None, description="Why it failed.")


class BatchView(BaseModel):
    """A batch's progress."""

    id: str
    status: Literal["queued", "painting", "done", "stopped", "failed"]
    seconds: float = Field(description="Painting time so far.")
    total: int = Field(description="Number of paintings.")
    done: int = Field(description="How many are painted.")
    failed: int = Field(description="How many could not be painted; report.jsonl in the result says why.")
    place: int | None = Field(None, description="Position in the queue, counted from 1.")
    seconds_left: float | None = None
    note: str | None = Field(None, description="Why it ended early.")
    error: str | None = Field(None, description="Why it failed.")


class VideoView(BaseModel):
    """A film's progress."""

    id: str
    status: Literal["queued", "painting", "done", "stopped", "failed"]
    seconds: float = Field(description="Painting time so far.")
    frames: int = Field(description="Number of previews so far. The newest is at /v1/videos/{id}/frame.")
    done: int = Field(description="Number of painted frames of the film.")
    media_type: str = Field(description="Media type of the result.")
    command: str = Field(description="The command that paints the same in a terminal.")
    place: int | None = Field(None, description="Position in the queue, counted from 1.")
    total: int | None = Field(None, description="Number of frames to paint, estimated from the film's length.")
    seconds_left: float | None = None
    estimates: dict[str, float] | None = Field(
        None, description="Quality -> about how many seconds the whole film takes. Updated once painted."
    )
    max_seconds: float | None = Field(None, description="A film that takes longer is stopped, and not kept.")
    size: list[int] | None = Field(None, description="Width and height of the painted film in pixels.")
    note: str | None = Field(None, description="Why it ended early, or what could not be read.")
    error: str | None = Field(None, description="Why it failed.")


class LiveView(BaseModel):
    """A camera that is painted live."""

    id: str
    frames: int = Field(description="Number of frames painted so far.")
    styles: list[str]
    strength: float
    stability: float
    rate: float = Field(description="Frames painted a second lately.")
    long_side: int = Field(description="Long side at which frames are painted now, in pixels.")
    size: list[int] | None = Field(None, description="Width and height of the last painting in pixels.")


class StageView(BaseModel):
    """What a page of live painting begins with."""

    styles: list[str] = Field(description="The styles that the server was started with.")
    own_styles: list[str] = Field(description="Those of them that are not built in.")
    strength: float
    stability: float
    rate: float = Field(description="Frames a second to hold.")
    largest: int = Field(description="Largest long side that the size adjusts itself to, in pixels.")
    size: int | None = Field(None, description="The fixed long side, in pixels.")
    camera: str | None = Field(None, description="Name of this machine's camera, if it is painted.")
    id: str | None = Field(None, description="The session of this machine's camera.")


def refusal(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return an error response with a one-line reason."""
    return JSONResponse({"error": " ".join(reason.split())}, status, headers)


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "The request is malformed."},
    401: {"model": Refusal, "description": "The key is missing or wrong."},
    403: {"model": Refusal, "description": "The request comes from another site's page, or its Host is unknown."},
    404: {"model": Refusal, "description": "The path or the job does not exist."},
    405: {"model": Refusal, "description": "The method is not allowed."},
    409: {"model": Refusal, "description": "The painting is not finished yet."},
    413: {"model": Refusal, "description": "The request is too large."},
    422: {"model": Refusal, "description": "The request is invalid or cannot be painted."},
    429: {"model": Refusal, "description": "Too many paintings are already waiting."},
}
"""Status -> its description in OpenAPI."""
