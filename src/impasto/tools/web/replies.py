"""What the HTTP interface answers: the schemas of its JSON, and errors as one line each."""

from typing import Any, Literal

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse


class Refusal(BaseModel):
    """Why a request was not done."""

    error: str = Field(description="One line: what is wrong, and what to do.")


class StyleView(BaseModel):
    """A built-in style."""

    name: str = Field(description="As `style` takes it.")
    title: str = ""
    artist: str = ""
    date: str = ""
    licence: str = ""
    source: str = ""
    thumbnail: str = Field(description="Where a small picture that was painted in it is.")


class JobView(BaseModel):
    """How far a painting is."""

    id: str
    status: Literal["queued", "painting", "done", "stopped", "failed"]
    seconds: float = Field(description="How long it has been painted.")
    frames: int = Field(description="Frames so far; a new one is at /v1/jobs/{id}/frame when it has grown.")
    place: int | None = Field(None, description="Its place among those that wait, counted from 1.")
    iteration: int | None = None
    total: int | None = Field(None, description="Iterations that there will be.")
    scale: list[int] | None = Field(None, description="Width and height, in pixels, that is being painted at.")
    losses: dict[str, float] | None = None
    seconds_left: float | None = None
    size: list[int] | None = Field(None, description="Width and height of the finished painting, in pixels.")
    note: str | None = Field(None, description="Why it ended early.")
    error: str | None = Field(None, description="Why it failed.")


def refusal(status: int, reason: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An answer that says on one line why a request was not done."""
    return JSONResponse({"error": " ".join(reason.split())}, status, headers)


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "The request is malformed."},
    401: {"model": Refusal, "description": "The key is missing or wrong."},
    403: {"model": Refusal, "description": "It comes from another site's page, or calls the server by a strange name."},
    404: {"model": Refusal, "description": "There is no such thing."},
    405: {"model": Refusal, "description": "Another method would do."},
    409: {"model": Refusal, "description": "It is too early for that."},
    413: {"model": Refusal, "description": "It is too large."},
    422: {"model": Refusal, "description": "Something in it cannot be painted."},
    429: {"model": Refusal, "description": "Too many paintings wait already."},
}
"""Status -> what OpenAPI says of it."""
