"""The server: run the page and the HTTP interface on one engine until it is stopped."""

import logging
import socket
from collections.abc import Callable
from contextlib import suppress

import uvicorn
from fastapi import FastAPI

from ...errors import OptionError
from ...options import ServeOptions
from .app import make_app
from .engine import Engine
from .live import Given

GRACE_SECONDS = 3
"""Seconds that responses in progress may take after the server is stopped."""


class Server(uvicorn.Server):
    """Uvicorn with two changes: it calls `ready` when it listens, and stops the engine before it closes connections."""

    def __init__(self, app: FastAPI, engine: Engine, ready: Callable[[], None]):
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # `Guard` reads them
                lifespan="on",
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self.engine, self.ready = engine, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening."""
        await super().startup(sockets)
        if self.started:
            self.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop the engine, then close the connections."""
        self.engine.close()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a host and port.

    Raises
    ------
    OptionError
        If the address does not belong to this machine, or the port is in use.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(address)
        found.listen()
    except OSError as error:
        reason = error.strerror or str(error)
        raise OptionError(f"cannot listen on {host} port {port} ({reason}); give another --port or --host") from error
    return found


def address_of(host: str, port: int) -> str:
    """Return the server's address for a browser."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def serve(options: ServeOptions, say: Callable[[str], None], given: Given | None = None) -> None:
    """Serve until Ctrl-C or SIGTERM. Then stop all work and remove all temporary files.

    Parameters
    ----------
    options : ServeOptions
        Address and limits.
    say : callable
        Prints a line to the user who started the server.
    given : Given, optional
        What `impasto live` was started with. Its page opens first.

    Raises
    ------
    ImpastoError
        If the server cannot start.
    """
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    listening = listen(options.host, options.port)
    with listening:
        engine = Engine(options)
        try:
            app = make_app(options, engine, given)
            address = address_of(options.host, listening.getsockname()[1]) + options.root_path.rstrip("/")

            def ready() -> None:
                engine.start()  # only now: the warm-up would delay the page
                if given is not None:
                    say(f"The painting is at {address}/#live (Ctrl-C stops it)")
                    return
                say(f"The studio is at {address} (Ctrl-C stops it; its HTTP interface is described at {address}/docs)")

            with suppress(KeyboardInterrupt):
                Server(app, engine, ready).run([listening])
        finally:
            engine.close()
