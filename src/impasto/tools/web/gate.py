"""What the page's library, Gradio, may be asked: the few routes that our page uses, with files of its own folder only.

Gradio has routes that open any allowed path, fetch addresses and run functions by name, for uses that are not ours.
Here everything is refused that is not on a list, and in what a page sends, every file must be one that was uploaded.
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
        ("POST", r"/gradio_api/(upload|queue/join|cancel|reset)"),
    )
)
OURS = re.compile(r"/(v1/.*|healthz|openapi\.json|docs|key|studio/.*)")
"""Routes that are not Gradio's."""
FILE = "/gradio_api/file="
SESSION = re.compile(r"[a-z0-9]{1,64}")
DEEPEST = 12
"""Levels of lists and objects in what a page sends."""


def is_route(path: str) -> bool:
    """Whether there is something at a path, for whatever method."""
    return bool(OURS.fullmatch(path)) or any(pattern.fullmatch(path) for _, pattern in ROUTES)


def path_below(scope: Scope) -> str:
    """The path of a request, without the prefix that a proxy puts before ours."""
    return scope.get("path", "").removeprefix(scope.get("root_path", ""))


class Gate:
    """The middleware.

    Parameters
    ----------
    app : ASGI application
        What stands behind it.
    folder : Path
        The only one whose files may be named: where uploads lie.
    events : callable
        Gives the number of the page's events.
    """

    def __init__(self, app: ASGIApp, folder: Path, events: Any):
        self.app, self.folder, self.events = app, folder.resolve(), events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        path = path_below(scope)
        if scope["type"] != "http" or OURS.fullmatch(path):
            await self.app(scope, receive, send)
            return
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        if not any(method == m and p.fullmatch(path) for m, p in ROUTES) or ".." in path.split("/"):
            await refusal(404, "there is no such page here")(scope, receive, send)
        elif path.startswith(FILE) and not self.is_ours(path.removeprefix(FILE)):
            await refusal(403, "only files of this page are served")(scope, receive, send)
        elif path.endswith(("/queue/data", "/upload_progress")) and not has_session(scope):
            await refusal(422, "the page's session is not named")(scope, receive, send)
        elif method == "POST" and not path.endswith("/upload"):
            await self.checked(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def is_ours(self, name: Any) -> bool:
        """Whether that names a file in the folder."""
        if not isinstance(name, str) or "\0" in name or "://" in name or len(name) > 1000:
            return False
        try:
            path = Path(name).resolve()
            return path.is_absolute() and path.is_relative_to(self.folder) and path.is_file()
        except (OSError, ValueError, RuntimeError):
            return False

    async def checked(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Read what a page sends as JSON, and pass it on if all of it is as our page sends it."""
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
            sent, problem = None, "that is no JSON"
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
        """What is wrong with what a page sent; empty if nothing is. Addresses in it are taken out."""
        if not isinstance(sent, dict):
            return "that is no object"
        texts = {k: sent.get(k) for k in ("session_hash", "event_id")}
        if any(v is not None and not (isinstance(v, str) and SESSION.fullmatch(v)) for v in texts.values()):
            return "the page's session is not named"
        if path.endswith("/reset"):
            return "" if texts["event_id"] else "no event is named"
        number = sent.get("fn_index")
        if not isinstance(number, int) or isinstance(number, bool) or number not in self.events():
            return "the page has no such event"
        if not texts["session_hash"]:
            return "the page's session is not named"
        if path.endswith("/cancel"):
            return "" if texts["event_id"] else "no event is named"
        data, wanted = sent.get("data"), self.events()[number]
        if not isinstance(data, list) or len(data) != wanted:
            return f"the event takes a list of {wanted} values"
        trigger = sent.get("trigger_id")
        if trigger is not None and (not isinstance(trigger, int) or isinstance(trigger, bool)):
            return "what triggered the event is not a number"
        sent["batched"], sent["simple_format"] = False, False
        return self.data_problem([data, sent.get("event_data")])

    def data_problem(self, value: Any, depth: int = 0) -> str:
        """The same of the values of an event."""
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
    """Whether the query names a page's session, or an upload."""
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    return any(SESSION.fullmatch(query.get(k, [""])[0]) for k in ("session_hash", "upload_id"))
