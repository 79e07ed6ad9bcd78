"""Check every request: its Host, its origin, its key and its size.

- The Host must be one of ours. This prevents DNS rebinding, where a foreign domain points to this machine.
- A request that changes something must come from our own page or from no page (against cross-site requests). Behind a
  proxy our page's address differs from the one that the proxy calls: the options or a trusted proxy name it.
- If a key is set, every request must carry it: as `Authorization: Bearer KEY`, or as the cookie that the page's form
  sets.
- A body above the limit is refused before it is read.
"""

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from types import MappingProxyType
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...errors import OptionError
from .gate import path_below
from .proxy import DEFAULT_PORTS, Outside, addressed, authority
from .replies import refusal

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
COOKIE, KEY_FORM = "impasto_key", "/key"
LEAST_KEY = 16
"""Minimum number of characters of a key."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    # A page's code can only contact this server.
    "Content-Security-Policy": (
        "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; object-src 'none'; base-uri 'self'; "
        "frame-ancestors 'self'; form-action 'self'"
    ),
}

UNBUFFERED = {"X-Accel-Buffering": "no"}
"""Header that makes nginx pass on events immediately instead of at the end."""


def read_key(path: Path) -> str:
    """Return the key in a text file, without surrounding whitespace.

    Raises
    ------
    OptionError
        If the file cannot be read, or its text is too short for a key.
    """
    try:
        key = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"--api-key-file {path} cannot be read as ASCII text: {error}") from error
    if len(key) < LEAST_KEY or not key.isprintable():
        raise OptionError(f"--api-key-file {path}: the key must be one line of at least {LEAST_KEY} characters")
    return key


def host_name(host: str) -> str:
    """Return the name in a Host header, without the port, in lower case; empty if there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    """Return whether a name is a numeric address, which DNS rebinding cannot use."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Middleware that refuses requests that fail the checks.

    Parameters
    ----------
    app : ASGI application
        The application behind it.
    hosts : sequence of str
        Host names to accept, in addition to localhost, this machine's own name and numeric addresses.
    pages : sequence of str
        `NAME` or `NAME:PORT`, our page's addresses in browsers, even if a proxy calls the server by another name.
        Without a port, those of http and https.
    outside : Outside
        The address behind a proxy.
    key : str or None
        The key that requests must carry.
    max_bytes : int
        Maximum size of a request's body.
    larger : mapping
        Path -> another maximum for requests to it.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Sequence[str],
        key: str | None,
        max_bytes: int,
        pages: Sequence[str] = (),
        outside: Outside | None = None,
        larger: Mapping[str, int] = MappingProxyType({}),
    ):
        self.app, self.max_bytes, self.larger, self.outside = app, max_bytes, larger, outside or Outside()
        self.hosts = {"localhost", socket.gethostname().lower(), *map(host_name, (*hosts, *pages))}
        self.pages = {authority(f"{scheme}://{page}") for page in pages for scheme in DEFAULT_PORTS}
        self.digest = None if key is None else hashlib.sha256(key.encode()).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # a WebSocket: there are none here
            await send({"type": "websocket.close", "code": 1008})
            return
        called = Headers(scope=scope).get("host", "")
        scope = self.outside.seen(scope)
        headers = Headers(scope=scope)
        answer = self.refused(scope, headers, called)
        if answer is None and (origin := headers.get("origin")) and scope["method"] not in SAFE_METHODS:
            scope = addressed(scope, *origin.lower().split("://"))
        if answer is None and scope["path"] == scope["root_path"]:  # the page's links are relative to its folder
            answer = RedirectResponse(f"{scope['root_path']}/")
        if answer is None and not self.has_key(headers):
            await self.ask_for_key(scope, headers, receive, send)
        elif answer is not None:
            await answer(scope, receive, with_headers(send))
        else:
            await self.limited(scope, receive, with_headers(send))

    def refused(self, scope: Scope, headers: Headers, called: str) -> ASGIApp | None:
        """Return the refusal of a request, or None. Does not check the key. `called` is the original Host header."""
        hosts, origin = (called, headers.get("host", "")), headers.get("origin")
        for name in map(host_name, hosts):
            if not (name in self.hosts or is_address(name)):
                return refusal(403, f"{name[:60]!r} is not a name of this server; allow it with --allow-host")
        if scope["method"] not in SAFE_METHODS:
            if origin is not None and not self.is_own(origin, hosts):
                return refusal(403, self.elsewhere(origin))
            if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                return refusal(403, "the request comes from another site's page")
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            return refusal(400, "the content-length of the request is not a number")
        if int(length[:18]) > self.limit(scope):
            return self.too_large(scope)
        return None

    def limit(self, scope: Scope) -> int:
        """Return the maximum size of a request's body."""
        return self.larger.get(path_below(scope), self.max_bytes)

    def is_own(self, origin: str, hosts: Sequence[str]) -> bool:
        """Return whether an origin is our own page's, given the Host names of the request."""
        page, (scheme, _, _) = authority(origin), origin.lower().partition("://")
        return page is not None and (page in self.pages or page in [authority(f"{scheme}://{h}") for h in hosts])

    def elsewhere(self, origin: str) -> str:
        """Return why a request from a page of that origin is refused."""
        reason, page = "the request comes from another site's page", authority(origin)
        if page is None or page[0] not in self.hosts:
            return reason
        return f"{reason}; if it is the studio's page behind a proxy, allow it with --allow-host {page[0]}:{page[1]}"

    def too_large(self, scope: Scope) -> ASGIApp:
        """Return the refusal of a body above the limit."""
        return refusal(413, f"the request is larger than this server's limit of {self.limit(scope) / 1e6:g} MB")

    def has_key(self, headers: Headers) -> bool:
        """Return whether the request carries the key, or no key is set. Compares in constant time."""
        if self.digest is None:
            return True
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self.is_key(given.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self.digest.encode())

    def is_key(self, given: str) -> bool:
        """Return whether a text is the key."""
        assert self.digest is not None
        found = hashlib.sha256(given.encode("utf-8", "surrogateescape")).hexdigest()
        return hmac.compare_digest(found, self.digest)

    async def ask_for_key(self, scope: Scope, headers: Headers, receive: Receive, send: Send) -> None:
        """Answer a request without the key: with a form to a browser, else with 401."""
        answer: ASGIApp = refusal(401, "the key is missing or wrong", {"WWW-Authenticate": "Bearer"})
        if scope["method"] == "POST" and path_below(scope) == KEY_FORM:
            body = b""
            while len(body) <= 4096:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            given = parse_qs(body.decode("latin-1")).get("key", [""])[0]
            if self.is_key(given):
                home, secure = f"{scope['root_path']}/", scope["scheme"] == "https"
                answer = RedirectResponse(home, 303)
                answer.set_cookie(COOKIE, self.digest or "", path=home, httponly=True, samesite="strict", secure=secure)
        elif scope["method"] == "GET" and path_below(scope) == "/" and "text/html" in headers.get("accept", ""):
            answer = HTMLResponse(KEY_PAGE, 401)
        await answer(scope, receive, with_headers(send))

    async def limited(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on. A body of undeclared length is cut off and refused when it exceeds the limit."""
        read, refused, begun = 0, False, False

        async def counted() -> Message:
            nonlocal read, refused
            if refused:
                return {"type": "http.disconnect"}
            message = await receive()
            read += len(message.get("body", b""))
            if read <= self.limit(scope):
                return message
            refused = True
            if not begun:
                await self.too_large(scope)(scope, receive, send)
            return {"type": "http.disconnect"}

        async def unless_refused(message: Message) -> None:
            nonlocal begun
            begun = True
            if not refused:
                await send(message)

        try:
            await self.app(scope, counted, unless_refused)
        except Exception:
            if not refused:  # otherwise the error comes from the cut-off body
                raise


def with_headers(send: Send) -> Send:
    """Return a `send` that adds the common headers to each response."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            known = {name.lower() for name, _ in message.get("headers", [])}
            kind = Headers(raw=message.get("headers", [])).get("content-type", "")
            events = kind.startswith("text/event-stream")
            wanted = {**HEADERS, **(UNBUFFERED if events else {})}
            more = [(k.lower().encode(), v.encode()) for k, v in wanted.items() if k.lower().encode() not in known]
            message = {**message, "headers": [*message.get("headers", []), *more]}
        await send(message)

    return sending


KEY_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Impasto</title><body style="font: 18px system-ui; max-width: 24em; margin: 20vh auto; padding: 0 1em">
<form method="post" action="key"><h1>Impasto</h1><p><label>This studio's key<br>
<input name="key" type="password" autofocus autocomplete="current-password" style="font: inherit; width: 100%"></label>
<p><button style="font: inherit">Open</button></form></body></html>"""
