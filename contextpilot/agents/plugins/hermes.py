"""ContextPilot in Hermes: each request is rewritten on its way to the model, and nothing is stored.

Hermes' context engines are asked when a session is to be compressed, and what they return becomes
the session. So the built-in one stays, and this is middleware: it sees every request, as a copy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from contextpilot.pilot import ContextPilot

logger = logging.getLogger(__name__)

_MESSAGES, _SYSTEM = ("messages", "input"), ("system", "instructions")
"""What the APIs call them."""


class HermesContext(Protocol):
    """What Hermes (0.18 on) hands to `register`."""

    def register_middleware(self, kind: str, callback: Callable[..., Any]) -> None:
        """Let a callback change requests."""

    def register_command(
        self, name: str, handler: Callable[[str], str], description: str = ""
    ) -> None:
        """Add a command that starts with a slash."""


def register(ctx: HermesContext) -> None:
    """Called by Hermes when the plugin is enabled."""
    if not hasattr(ctx, "register_middleware"):
        logger.warning("contextpilot: nothing is rewritten, because this Hermes has no middleware")
        return
    rewriting = RequestRewriting()
    ctx.register_middleware("llm_request", rewriting)
    ctx.register_command("contextpilot", lambda _: rewriting.status(), "what it saved")


class RequestRewriting:
    """Hermes' middleware for requests; whatever fails leaves a request as it is. Thread-safe.

    Args:
        pilot: rewrites them; by default a new one, of this process.
    """

    def __init__(self, pilot: ContextPilot | None = None) -> None:
        self._pilot = pilot or ContextPilot()
        self._num_requests = self._num_rewritten = self._saved_chars = 0
        self._has_warned = False

    def __call__(self, *, request: Mapping[str, Any], **_: Any) -> dict[str, Any] | None:
        """Return what Hermes takes for a changed request; None for one that stays."""
        self._num_requests += 1
        try:
            return self._rewritten(request)
        except Exception as error:  # the agent's session goes on
            if not self._has_warned:
                logger.warning("contextpilot: a request stays unchanged: %r", error)
            self._has_warned = True
            return None

    def _rewritten(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        messages = next((name for name in _MESSAGES if isinstance(request.get(name), list)), None)
        system = next((name for name in _SYSTEM if request.get(name)), None)
        if messages is None:
            return None
        done = self._pilot.rewrite(
            request[messages], system=request.get(system or ""), tools=request.get("tools")
        )
        if not done.is_rewritten:
            return None
        self._num_rewritten += 1
        self._saved_chars += done.saved_chars
        changed = {**request, messages: list(done.messages)}
        if system is not None:
            changed[system] = done.system
        return {"request": changed, "source": "contextpilot"}

    def status(self) -> str:
        """Return in a line what was done so far."""
        return (
            f"ContextPilot: {self._num_rewritten} of {self._num_requests} prompts rewritten, "
            f"{self._saved_chars} characters not sent"
        )
