"""Routes that read their one body at once: FastAPI's general way costs more than planning does."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, get_type_hints

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from contextpilot.server.errors import ApiError

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class BodyRoute(APIRoute):
    """Serves an endpoint that takes `body`, a model, and `request`; others as FastAPI does.

    The body must be called JSON, which browsers send to no foreign site unasked.
    """

    def get_route_handler(self) -> Handler:
        endpoint: Callable[..., Awaitable[Response]] = self.endpoint
        model: Any = get_type_hints(self.endpoint).get("body")
        takes = set(inspect.signature(self.endpoint).parameters)
        if takes != {"body", "request"} or not _is_model(model):
            return super().get_route_handler()

        async def handle(request: Request) -> Response:
            kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                raise ApiError(415, "Content-Type must be application/json")
            try:
                body = model.model_validate_json(await request.body())
            except ValidationError as error:
                details = error.errors(include_url=False, include_context=False)
                raise RequestValidationError(
                    [{**detail, "loc": ("body", *detail["loc"])} for detail in details]
                ) from None
            return await endpoint(body=body, request=request)

        return handle


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
