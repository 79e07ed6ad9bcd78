"""Answers to requests that no route of the HTTP interface takes: 405 where another method would do, else 404."""

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Receive, Scope, Send

from .replies import refusal

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
PLACES = ("/v1/{rest:path}", "/healthz")
"""Where it stands behind the routes, before what is mounted at the root would be asked."""


class Elsewhere:
    """The answer, for the routes that come before it."""

    def __init__(self, routes: Sequence[BaseRoute]):
        self.routes = list(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        allowed = [m for m in METHODS if self.takes({**scope, "method": m})]
        if allowed:
            reason, headers = f"{scope['method'][:20]} is not for this; use {' or '.join(allowed)}", ", ".join(allowed)
            await refusal(405, reason, {"Allow": headers})(scope, receive, send)
        else:
            await refusal(404, "there is no such thing; /docs lists what there is")(scope, receive, send)

    def takes(self, scope: Scope) -> bool:
        """Whether a route would take the request."""
        return any(route.matches(scope)[0] == Match.FULL for route in self.routes)


def stand_behind(routes: list[BaseRoute]) -> None:
    """Put the answer behind the routes."""
    answer = Elsewhere(routes)
    routes.extend(Route(path, answer, include_in_schema=False) for path in PLACES)
