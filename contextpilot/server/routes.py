"""Routes that read their one body at once: FastAPI's general way costs more than planning does."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, get_type_hints

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from contextpilot.server.body import BodyTooLargeError, ClientGoneError, read_body
from contextpilot.server.errors import ApiError, reply_of

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class BodyRoute(APIRoute):
    """Serves an endpoint that takes `body`, a model, and `request`; others as FastAPI does.

    The body must be called JSON, which browsers send to no foreign site unasked.
    """

    def get_route_handler(self) -> Handler:
        return self.body_handler() or super().get_route_handler()

    def body_handler(self) -> Handler | None:
        """Return what reads a body and calls the endpoint; None when the endpoint takes others."""
        endpoint: Callable[..., Awaitable[Response]] = self.endpoint
        model: Any = get_type_hints(self.endpoint).get("body")
        takes = set(inspect.signature(self.endpoint).parameters)
        if takes != {"body", "request"} or not _is_model(model):
            return None

        async def handle(request: Request) -> Response:
            try:
                body = await _read(request, model)
            except ClientGoneError:
                return Response(status_code=400)  # which nobody reads
            return await endpoint(body=body, request=request)

        return handle


def shortcuts(router: APIRouter, app: ASGIApp) -> dict[str, ASGIApp]:
    """Return by path what serves POST requests of the router's body routes, as `app` does."""
    found: dict[str, ASGIApp] = {}
    for route in router.routes:
        handler = route.body_handler() if isinstance(route, BodyRoute) else None
        if isinstance(route, BodyRoute) and handler is not None and route.methods == {"POST"}:
            found[route.path] = _shortcut(handler, app)
    return found


def _shortcut(handler: Handler, app: ASGIApp) -> ASGIApp:
    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = app
        try:
            response = await handler(Request(scope, receive, send))
        except (ApiError, RequestValidationError) as error:
            response = reply_of(error)
        await response(scope, receive, send)

    return serve


async def _read(request: Request, model: Any) -> Any:
    """Return the request's body as the model.

    Raises:
        ApiError, RequestValidationError: it is none.
        ClientGoneError: it was not sent to its end.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "Content-Type must be application/json")
    try:
        content = await read_body(request.receive, request.app.state.settings.max_body_bytes)
    except BodyTooLargeError as error:
        raise ApiError(413, str(error)) from None
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
        raise RequestValidationError(
            [{**detail, "loc": ("body", *detail["loc"])} for detail in details]
        ) from None


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
