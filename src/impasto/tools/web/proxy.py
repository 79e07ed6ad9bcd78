"""Restore requests behind a reverse proxy: the address that the browser used, and the path prefix.

A proxy calls the studio by another name, without encryption, and often at another path. Its headers say what the
browser requested. Only proxies named in the options are trusted. These headers are removed from all requests, so that
nothing else reads them. By the ASGI specification, the prefix is in both `root_path` and `path`.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .gate import is_route, path_below

OTHERS = (b"forwarded", b"x-gradio-server", b"x-real-ip")
"""Headers of proxies, in addition to all `x-forwarded-...`."""
DEFAULT_PORTS = {"http": 80, "https": 443}


def authority(url: str) -> tuple[str, int] | None:
    """Return name and port (default: the scheme's) of `http://NAME` or `https://NAME:PORT`; None for other text."""
    try:
        parts = urlsplit(url.lower())
        if parts.scheme in DEFAULT_PORTS and parts.hostname and url.lower() == f"{parts.scheme}://{parts.netloc}":
            return parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme]
    except ValueError:
        pass
    return None


class Outside:
    """The studio's address as seen by browsers.

    Parameters
    ----------
    prefix : str
        The path prefix, such as `/paint`; empty if there is none.
    trusted : sequence of str
        Addresses and networks of trusted proxies; `*` trusts everybody.
    """

    def __init__(self, prefix: str = "", trusted: Sequence[str] = ()):
        self.prefix = prefix.rstrip("/")
        networks = [n for t in trusted for n in (("0.0.0.0/0", "::/0") if t == "*" else (t,))]
        self.networks = [ip_network(n, strict=False) for n in networks]

    def trusts(self, scope: Scope) -> bool:
        """Return whether the request comes directly from a trusted proxy."""
        try:
            address = ip_address((scope.get("client") or ("",))[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self.networks)

    def seen(self, scope: Scope) -> Scope:
        """Return the request as the browser sent it, without the headers of proxies."""
        headers, trusted = Headers(scope=scope), self.trusts(scope)

        def forwarded(name: str) -> str:
            # Anything before the last comma was already there when the request reached the proxy.
            return ",".join(headers.getlist(f"x-forwarded-{name}")).rpartition(",")[2].strip() if trusted else ""

        scheme, host, port = forwarded("proto").lower(), forwarded("host"), forwarded("port")
        scheme = scheme if scheme in DEFAULT_PORTS else scope.get("scheme", "http")
        host = host or headers.get("host", "")
        if port not in ("", "80", "443") and authority(f"{scheme}://{host}:{port}"):
            host = f"{host}:{port}"
        kept = [(k, v) for k, v in scope["headers"] if not (k.startswith(b"x-forwarded-") or k in OTHERS)]
        return addressed({**scope, "headers": kept, **self.placed(scope)}, scheme, host)

    def placed(self, scope: Scope) -> Scope:
        """Return the request's path with the prefix, whether or not the proxy has stripped it."""
        path, raw = scope["path"], scope.get("raw_path") or b""
        bare = path == self.prefix and not is_route(path)
        if not (bare or (path.startswith(f"{self.prefix}/") and is_route(path.removeprefix(self.prefix)))):
            path, raw = self.prefix + path, self.prefix.encode() + raw
        return {"path": path, "raw_path": raw, "root_path": self.prefix}


def addressed(scope: Scope, scheme: str, host: str) -> Scope:
    """Return the request with another scheme and host."""
    others = [(k, v) for k, v in scope["headers"] if k != b"host"]
    return {**scope, "scheme": scheme, "headers": [(b"host", host.encode("latin-1", "replace")), *others]}


RELATIVE = (
    (re.compile(rb'(src=")[^"]*(/static/js/)'), rb"\1.\2"),
    (re.compile(rb'(href=")(/manifest\.json")'), rb"\1.\2"),
    (
        re.compile(rb"</head>"),
        rb'<link rel="icon" href="./studio/icon.svg">'
        rb'<script>gradio_config.root = new URL(".", location).href.slice(0, -1)</script></head>',
    ),
)
"""Pattern and replacement of each change to Gradio's page."""


class Relative:
    """Middleware that makes the addresses in Gradio's page relative to the address in the browser.

    Gradio writes the address at which it was called into the page, but a proxy may call it at another one.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and change the answer if it is the page."""
        if scope["type"] != "http" or scope["method"] != "GET" or path_below(scope) != "/":
            await self.app(scope, receive, send)
            return
        start: Message = {}
        page = b""

        async def changed(message: Message) -> None:
            nonlocal start, page
            if message["type"] == "http.response.start":
                start = message
            elif message["type"] == "http.response.body":
                page += message.get("body", b"")
                if not message.get("more_body"):
                    await whole()
            else:
                await send(message)

        async def whole() -> None:
            new = page
            for pattern, wanted in RELATIVE:
                new = pattern.sub(wanted, new)
            headers = [(k, v) for k, v in start["headers"] if k != b"content-length"]
            await send({**start, "headers": [*headers, (b"content-length", str(len(new)).encode())]})
            await send({"type": "http.response.body", "body": new})

        # Without compression, so that the text can be changed.
        headers = [(k, v) for k, v in scope["headers"] if k != b"accept-encoding"]
        await self.app({**scope, "headers": headers}, receive, changed)
