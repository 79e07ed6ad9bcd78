"""Answer requests that match no route of the HTTP interface: 405 if another method is allowed, else 404."""

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from .replies import refusal

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
PLACES = ("/v1/{rest:path}", "/healthz")
"""Paths that are answered here instead of by the page mounted at the root."""


class Elsewhere:
    """ASGI application that answers requests that none of the given routes takes."""

    def __init__(self, routes: Sequence[BaseRoute]):
        self.routes = list(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with 405 or 404."""
        allowed = [m for m in METHODS if self.takes({**scope, "method": m})]
        if allowed:
            reason, headers = f"{scope['method'][:20]} is not allowed; use {' or '.join(allowed)}", ", ".join(allowed)
            await refusal(405, reason, {"Allow": headers})(scope, receive, send)
        else:
            await refusal(404, "this path does not exist; /docs lists the paths")(scope, receive, send)

    def takes(self, scope: Scope) -> bool:
        """Return whether a route would take the request."""
        return any(route.matches(scope)[0] == Match.FULL for route in self.routes)


def stand_behind(routes: list[BaseRoute]) -> None:
    """Append the answer for unmatched requests to the routes."""
    answer = Elsewhere(routes)
    routes.extend(Route(path, answer, include_in_schema=False) for path in PLACES)
