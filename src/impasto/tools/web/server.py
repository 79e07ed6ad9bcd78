"""The server: page and HTTP interface on one engine, from the first line that tells the address to a clean end."""

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

GRACE_SECONDS = 3
"""How long answers that are being sent may take once the server is told to stop."""


class Server(uvicorn.Server):
    """Uvicorn, which ends the engine's work before it waits for those who watch it, and says when it listens."""

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
        """Begin to listen."""
        await super().startup(sockets)
        if self.started:
            self.ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the work, then the connections."""
        self.engine.close()
        await super().shutdown(sockets)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises
    ------
    OptionError
        If the address is none of this machine's, or the port is taken.
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
    """What to type into a browser."""
    shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host
    return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"


def serve(options: ServeOptions, say: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; work that is under way then is ended, and every temporary file removed.

    Parameters
    ----------
    options : ServeOptions
        Where, and with which limits.
    say : callable
        Takes a line for the person who started it.

    Raises
    ------
    ImpastoError
        If it cannot start.
    """
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    listening = listen(options.host, options.port)
    with listening:
        engine = Engine(options)
        try:
            app = make_app(options, engine)
            address = address_of(options.host, listening.getsockname()[1]) + options.root_path.rstrip("/")

            def ready() -> None:
                engine.start()  # not before: its warming up would hold up the page
                say(f"The studio is at {address} (Ctrl-C stops it; its HTTP interface is described at {address}/docs)")

            with suppress(KeyboardInterrupt):
                Server(app, engine, ready).run([listening])
        finally:
            engine.close()
