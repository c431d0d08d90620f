"""Why the shim is not used."""

from __future__ import annotations


class InjectionError(RuntimeError):
    """The shim cannot report of this llama-server; the message says why, and what to do."""
