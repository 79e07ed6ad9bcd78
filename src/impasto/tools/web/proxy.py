"""Requests behind a reverse proxy, as the browser sent them: the address that it used, and the path before ours.

A proxy speaks to the studio under another name, without encryption, and often below another path. Where it says by
headers what the browser asked for, only a proxy that the options name is believed; from anybody else these headers are
removed, so that nothing behind reads them. The ASGI specification has the prefix both in `root_path` and in `path`.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .gate import is_route, path_below

OTHERS = (b"forwarded", b"x-gradio-server", b"x-real-ip")
"""Headers of proxies, besides all `x-forwarded-...`."""
DEFAULT_PORTS = {"http": 80, "https": 443}


def authority(url: str) -> tuple[str, int] | None:
    """Name and port of `http://NAME` or `https://NAME:PORT`, by default the scheme's port; None for anything else."""
    try:
        parts = urlsplit(url.lower())
        if parts.scheme in DEFAULT_PORTS and parts.hostname and url.lower() == f"{parts.scheme}://{parts.netloc}":
            return parts.hostname, parts.port or DEFAULT_PORTS[parts.scheme]
    except ValueError:
        pass
    return None


class Outside:
    """Where the studio is, seen from outside.

    Parameters
    ----------
    prefix : str
        The path before ours, as `/paint`; empty if there is none.
    trusted : sequence of str
        Addresses and networks of the proxies whose headers are believed; `*` is everybody's.
    """

    def __init__(self, prefix: str = "", trusted: Sequence[str] = ()):
        self.prefix = prefix.rstrip("/")
        networks = [n for t in trusted for n in (("0.0.0.0/0", "::/0") if t == "*" else (t,))]
        self.networks = [ip_network(n, strict=False) for n in networks]

    def trusts(self, scope: Scope) -> bool:
        """Whether the request comes directly from a trusted proxy."""
        try:
            address = ip_address((scope.get("client") or ("",))[0])
        except ValueError:
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self.networks)

    def seen(self, scope: Scope) -> Scope:
        """The request as the browser sent it, without the headers of proxies."""
        headers, trusted = Headers(scope=scope), self.trusts(scope)

        def told(name: str) -> str:
            # What stands before the last comma was there when the request came to the proxy.
            return ",".join(headers.getlist(f"x-forwarded-{name}")).rpartition(",")[2].strip() if trusted else ""

        scheme, host, port = told("proto").lower(), told("host"), told("port")
        scheme = scheme if scheme in DEFAULT_PORTS else scope.get("scheme", "http")
        host = host or headers.get("host", "")
        if port not in ("", "80", "443") and authority(f"{scheme}://{host}:{port}"):
            host = f"{host}:{port}"
        kept = [(k, v) for k, v in scope["headers"] if not (k.startswith(b"x-forwarded-") or k in OTHERS)]
        return addressed({**scope, "headers": kept, **self.placed(scope)}, scheme, host)

    def placed(self, scope: Scope) -> Scope:
        """The request's path with the prefix, whether the proxy has taken it off or not."""
        path, raw = scope["path"], scope.get("raw_path") or b""
        bare = path == self.prefix and not is_route(path)
        if not (bare or (path.startswith(f"{self.prefix}/") and is_route(path.removeprefix(self.prefix)))):
            path, raw = self.prefix + path, self.prefix.encode() + raw
        return {"path": path, "raw_path": raw, "root_path": self.prefix}


def addressed(scope: Scope, scheme: str, host: str) -> Scope:
    """The request, sent to that host by that scheme."""
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
"""What is changed in Gradio's page, and to what."""


class Relative:
    """The middleware by which the page calls the server by the address that the browser has it from.

    Gradio writes the address into the page that it was called by; a proxy may have called it by any.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and change the page if that is what it asks for."""
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

        headers = [(k, v) for k, v in scope["headers"] if k != b"accept-encoding"]  # text can be changed
        await self.app({**scope, "headers": headers}, receive, changed)
