"""The packages that listen to KV events: an extra, loaded when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class MissingExtraError(ImportError):
    """A package that KV events need is not installed."""


def load_packages() -> Any:
    """Return pyzmq.

    Raises:
        MissingExtraError: it or msgspec is not installed; the extra is named.
    """
    try:
        import_module("msgspec.msgpack")
        return import_module("zmq")
    except ImportError as error:
        text = f"kv_events needs {error.name}: pip install pyzmq msgspec (the extra kv-events)"
        raise MissingExtraError(text) from None
