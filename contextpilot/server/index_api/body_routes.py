"""Routes that read their one body at once: FastAPI's general way costs more than planning does."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import Any, TypeVar, get_type_hints

from fastapi import APIRouter, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from contextpilot.server.errors import ApiError, reply_of
from contextpilot.server.offload import LARGE_BYTES, offload, parse_slowly
from contextpilot.server.protocol import waited_s
from contextpilot.server.request_body import (
    BodyTooLargeError,
    ClientGoneError,
    NoRoomError,
    check_parts,
)

_LONG_WAIT_S = 0.2
"""Nobody sets a shorter time-out than this."""
_MOMENT_S = 0.001
_MAX_FIELDS = 100
_UNREAD = Response(status_code=400)
"""For clients that have gone."""
_IN_ORDER: set[Any] = set()
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def in_order(endpoint: Endpoint) -> Endpoint:
    """Let an endpoint take one body after another, in the order in which they arrived."""
    _IN_ORDER.add(endpoint)
    return endpoint


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

        turn = asyncio.Lock() if endpoint in _IN_ORDER else None

        async def handle(request: Request) -> Response:
            try:
                async with _content(request) as content:
                    if turn is None and _waited(request) and await has_left(request):
                        return _UNREAD
                    request.state.is_large = len(content) >= LARGE_BYTES
                    async with turn or nullcontext():
                        if not request.state.is_large:
                            return await endpoint(body=_read(content, model), request=request)
                        body = await offload(True, _read_slowly, content, model)
                        return await endpoint(body=body, request=request)
            except ClientGoneError:
                return _UNREAD

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


def _waited(request: Request) -> bool:
    return waited_s(request.scope) > _LONG_WAIT_S


async def has_left(request: Request) -> bool:
    """Return whether the client went, as far as it can be seen: it sends none of its plans."""
    if _waited(request):
        await asyncio.sleep(_MOMENT_S)  # its going is read after its request
    return await request.is_disconnected()


@asynccontextmanager
async def _content(request: Request) -> AsyncIterator[bytes]:
    """Give the request's body.

    Raises:
        ApiError: it is not called JSON, or too large.
        ClientGoneError: it was not sent to its end.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise ApiError(415, "Content-Type must be application/json")
    try:
        async with request.app.state.bodies.read(request.receive) as content:
            check_parts(content)
            yield content
    except BodyTooLargeError as error:
        raise ApiError(413, str(error)) from None
    except NoRoomError as error:
        raise ApiError(503, str(error)) from None


def _read(content: bytes, model: Any) -> Any:
    """Return a body as the model.

    Raises:
        RequestValidationError: it is none.
    """
    with _validation_errors():
        return model.model_validate_json(content)


def _read_slowly(content: bytes, model: Any) -> Any:
    """Return a body as the model, for a thread: no call into C takes long.

    Raises:
        RequestValidationError: it is none.
    """
    with _validation_errors():
        read = parse_slowly(content)
        if isinstance(read, dict) and len(read) > _MAX_FIELDS:  # each would be an error of its own
            told = {"type": "extra_forbidden", "loc": ("body",), "msg": "has too many fields"}
            raise RequestValidationError([told])
        return model.model_validate(read)


@contextmanager
def _validation_errors() -> Iterator[None]:
    try:
        yield
    except (ValueError, RecursionError) as error:
        if not isinstance(error, ValidationError):
            told = {"type": "json_invalid", "loc": ("body",), "msg": "Invalid JSON"}
            raise RequestValidationError([told]) from None
        details = error.errors(include_url=False, include_context=False)
        raise RequestValidationError(
            [{**detail, "loc": ("body", *detail["loc"])} for detail in details]
        ) from None


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
