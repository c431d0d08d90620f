"""Errors of the index API, and how every error becomes its JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from contextpilot.server.older_names import FIELDS, PATHS
from contextpilot.server.request_body import RETRY_AFTER_S


class ApiError(Exception):
    """A request that cannot be served as it is; `field` is the part at fault."""

    def __init__(self, status: int, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.field = field


@contextmanager
def input_errors() -> Iterator[None]:
    """Turn what the library says of unfit input into an error of the index API."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ApiError(422, str(error)) from None


def install_handlers(app: FastAPI) -> None:
    """Let every error of the index API be JSON that names the field, and quotes no input."""
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ApiError, _invalid)


def error_reply(status: int, message: str, field: str | None = None) -> JSONResponse:
    """Return an error as the index API writes it."""
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None
    return JSONResponse({"error": {"message": message, "field": field}}, status, headers)


def reply_of(error: ApiError | RequestValidationError) -> JSONResponse:
    """Return the answer that an error becomes."""
    if isinstance(error, ApiError):
        return error_reply(error.status, str(error), error.field)
    details: Sequence[Any] = error.errors()
    first = details[0] if details else {"loc": (), "msg": "is invalid"}
    places = [str(part) for part in first["loc"][1:]]
    field = (
        ".".join(part for part in places if "[" not in part) or None
    )  # no names of union members
    status = 400 if first.get("type") == "json_invalid" else 422
    today = FIELDS.get(field or "") if first.get("type") == "extra_forbidden" else None
    message = f"is unknown; {today}" if today else first["msg"]
    return error_reply(status, f"{field or 'body'}: {message}", field)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, (ApiError, RequestValidationError))
    return reply_of(error)


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 404 and path in PATHS:
        return error_reply(404, f"there is no {path}: use {PATHS[path]}")
    return error_reply(error.status_code, str(error.detail))
