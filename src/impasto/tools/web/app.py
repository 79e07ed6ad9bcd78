"""The application: the HTTP interface and the page on one engine, behind the security checks."""

import os
from pathlib import Path
from typing import Any

import gradio
from fastapi import FastAPI
from starlette.responses import HTMLResponse
from starlette.staticfiles import StaticFiles

from ... import __version__
from ...options import ServeOptions
from .batch_routes import batch_router
from .cameras import live_router
from .docs import docs_page
from .elsewhere import stand_behind
from .engine import Engine
from .gate import Gate
from .http import install_errors, router
from .live import Given, LiveStage
from .page import head, make_page, theme
from .proxy import Outside, Relative
from .security import Guard, read_key
from .videos import video_router

STATIC = Path(__file__).parent / "static"
DESCRIPTION = (
    "Paint photographs in the style of other pictures. `POST /v1/stylize` returns the painting; `POST /v1/jobs` queues "
    "it, so that its progress can be followed. `POST /v1/videos` queues a film. Errors have a 4xx status and a "
    "one-line reason as `error`. If the server was started with a key, send it with each request as `Authorization: "
    "Bearer KEY`."
)


class Application(FastAPI):
    """FastAPI whose OpenAPI description says that forms have no additional fields."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI description."""
        found = super().openapi()
        for name, schema in found["components"]["schemas"].items():
            if name.startswith("Body_"):
                schema["additionalProperties"] = False
        return found


def make_app(options: ServeOptions, engine: Engine, given: Given | None = None) -> FastAPI:
    """Make the application.

    Parameters
    ----------
    options : ServeOptions
        Host names, key and limits.
    engine : Engine
        The engine that paints.
    given : Given, optional
        What `impasto live` was started with.

    Raises
    ------
    OptionError
        If the key's file is not usable.
    """
    outside = Outside(options.root_path, options.trusted_proxy)
    key = None if options.api_key_file is None else read_key(options.api_key_file)
    app: FastAPI = Application(
        title="Impasto", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None
    )
    app.state.engine = engine
    app.state.live = stage = LiveStage(options, engine.folder, given)
    engine.closing.append(stage.close)
    install_errors(app)
    app.include_router(router(engine))
    app.include_router(batch_router(engine))
    app.include_router(video_router(engine))
    app.include_router(live_router(stage))

    @app.get("/healthz", tags=["health"])
    def healthz() -> dict[str, Any]:
        """Return the server's status and the number of waiting paintings."""
        return {"status": "ok", "waiting": engine.waiting}

    stand_behind(app.router.routes)

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()))

    app.mount("/studio", StaticFiles(directory=STATIC))
    uploads = engine.folder / "page"
    uploads.mkdir(exist_ok=True)
    os.environ["GRADIO_TEMP_DIR"] = str(uploads)
    page = make_page(engine)
    unloads = {n for n, fn in page.fns.items() if any(event == "unload" for _, event in fn.targets)}
    events = {n: len(fn.inputs) for n, fn in page.fns.items() if fn.fn is not None and n not in unloads}
    app = gradio.mount_gradio_app(
        app,
        page,
        path="/",
        footer_links=[],
        show_error=True,
        max_file_size=int(options.max_upload * 1e6),
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        theme=theme(),
        head=head(outside.prefix),
        root_path=outside.prefix,
    )
    app.add_middleware(Relative)
    app.add_middleware(Gate, folder=uploads, events=lambda: events)
    app.add_middleware(
        Guard,
        hosts=[options.host],
        key=key,
        max_bytes=int(options.max_upload * 1e6),
        larger={"/v1/videos": int(options.max_film_upload * 1e6)},
        pages=options.allow_host,
        outside=outside,
    )
    return app
