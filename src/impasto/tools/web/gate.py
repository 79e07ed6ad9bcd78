"""Restrict Gradio, the page's library, to the few routes that our page uses and to files in its upload folder.

Gradio has routes that open any allowed path, fetch addresses and run functions by name. We do not need them. Only the
routes on a list are allowed, and every file in a page's request must be an uploaded one.
"""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .replies import refusal

ROUTES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (method, re.compile(pattern))
    for method, pattern in (
        ("GET", r"/(config|theme\.css|manifest\.json|favicon\.ico|robots\.txt|pwa_icon(/[0-9]{1,4})?)?"),
        ("GET", r"/(assets|static|svelte)/[\w.@/+-]{1,200}"),
        ("GET", r"/gradio_api/(info|startup-events|theme\.css|queue/data|upload_progress|app_id)"),
        ("GET", r"/gradio_api/heartbeat/[a-z0-9]{1,64}"),
        ("GET", r"/gradio_api/file=.{1,1000}"),
        ("POST", r"/gradio_api/(upload|queue/join|run/predict|cancel|reset)"),
    )
)
OURS = re.compile(r"/(v1/.*|healthz|openapi\.json|docs|key|studio/.*)")
"""Routes that are not Gradio's."""
FILE = "/gradio_api/file="
SESSION = re.compile(r"[a-z0-9]{1,64}")
DEEPEST = 12
"""Maximum nesting of lists and objects in a page's request."""


def is_route(path: str) -> bool:
    """Return whether a path has a route, for any method."""
    return bool(OURS.fullmatch(path)) or any(pattern.fullmatch(path) for _, pattern in ROUTES)


def path_below(scope: Scope) -> str:
    """Return the path of a request without the proxy's prefix."""
    return scope.get("path", "").removeprefix(scope.get("root_path", ""))


class Gate:
    """Middleware that lets only allowed requests through to Gradio.

    Parameters
    ----------
    app : ASGI application
        The application behind it.
    folder : Path
        The upload folder. Requests may only name files in it.
    events : callable
        Returns the page's events: index -> number of inputs.
    """

    def __init__(self, app: ASGIApp, folder: Path, events: Any):
        self.app, self.folder, self.events = app, folder.resolve(), events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        path = path_below(scope)
        if scope["type"] != "http" or OURS.fullmatch(path):
            await self.app(scope, receive, send)
            return
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if not any(method == m and p.fullmatch(path) for m, p in ROUTES) or ".." in path.split("/"):
            await refusal(404, "this page does not exist")(scope, receive, send)
        elif path.startswith(FILE) and not self.is_ours(path.removeprefix(FILE)):
            await refusal(403, "only files of this page are served")(scope, receive, send)
        elif path.endswith(("/queue/data", "/upload_progress")) and not has_session(scope):
            await refusal(422, "the page's session is missing")(scope, receive, send)
        elif method == "POST" and not path.endswith("/upload"):
            await self.checked(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def is_ours(self, name: Any) -> bool:
        """Return whether `name` is the path of a file in the folder."""
        if not isinstance(name, str) or "\0" in name or "://" in name or len(name) > 1000:
            return False
        try:
            path = Path(name).resolve()
            return path.is_absolute() and path.is_relative_to(self.folder) and path.is_file()
        except (OSError, ValueError, RuntimeError):
            return False

    async def checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read a page's JSON request, and pass it on if it is one that our page could send."""
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        try:
            sent = json.loads(body)
            problem = self.problem(path_below(scope), sent)
        except (ValueError, RecursionError):
            sent, problem = None, "the request is not JSON"
        if problem:
            await refusal(422, problem)(scope, receive, send)
            return
        body, given = json.dumps(sent).encode(), False

        async def again() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        headers = [
            (k, v) for k, v in scope["headers"] if k not in (b"content-length", b"content-type", b"transfer-encoding")
        ]
        headers += [(b"content-length", str(len(body)).encode()), (b"content-type", b"application/json")]
        await self.app({**scope, "headers": headers}, again, send)

    def problem(self, path: str, sent: Any) -> str:
        """Return what is wrong with a page's request, empty if nothing. Removes URLs from `sent`."""
        if not isinstance(sent, dict):
            return "the request is not a JSON object"
        texts = {k: sent.get(k) for k in ("session_hash", "event_id")}
        if any(v is not None and not (isinstance(v, str) and SESSION.fullmatch(v)) for v in texts.values()):
            return "the page's session is missing"
        if path.endswith("/reset"):
            return "" if texts["event_id"] else "the event is missing"
        number = sent.get("fn_index")
        if not isinstance(number, int) or isinstance(number, bool) or number not in self.events():
            return "the page does not have this event"
        if not texts["session_hash"]:
            return "the page's session is missing"
        if path.endswith("/cancel"):
            return "" if texts["event_id"] else "the event is missing"
        data, wanted = sent.get("data"), self.events()[number]
        if not isinstance(data, list) or len(data) != wanted:
            return f"the event takes a list of {wanted} values"
        trigger = sent.get("trigger_id")
        if trigger is not None and (not isinstance(trigger, int) or isinstance(trigger, bool)):
            return "trigger_id is not an integer"
        sent["batched"], sent["simple_format"] = False, False
        return self.data_problem([data, sent.get("event_data")])

    def data_problem(self, value: Any, depth: int = 0) -> str:
        """Return what is wrong with an event's values, empty if nothing. Removes URLs from `value`."""
        if depth > DEEPEST:
            return "the values are nested too deeply"
        if isinstance(value, list):
            return next((p for v in value if (p := self.data_problem(v, depth + 1))), "")
        if isinstance(value, dict):
            if "path" in value and not self.is_ours(value["path"]):
                return "only files that were uploaded to this page can be used"
            if "url" in value:
                value["url"] = None
            name = value.get("orig_name")
            if name is not None and not (isinstance(name, str) and len(name) <= 500):
                return "a file's name is not text"
            return next((p for v in value.values() if (p := self.data_problem(v, depth + 1))), "")
        return ""


def has_session(scope: Scope) -> bool:
    """Return whether the query names a page's session or an upload."""
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    return any(SESSION.fullmatch(query.get(k, [""])[0]) for k in ("session_hash", "upload_id"))
