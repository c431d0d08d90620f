"""The one start of the hooks, for the .pth, the .start file and the engines' plugin entry points.

`start()` may be called any number of times, from anywhere, and never raises. Without
CONTEXTPILOT_INDEX_URL it does nothing. With it, it registers what has to happen when a module of
an engine is imported; it imports neither the engine nor anything heavy.
"""

from __future__ import annotations

import os
import sys

SWITCH = "contextpilot_hook.off"
"""A file in a folder of the import path that switches the hooks off, plugins and all."""

OPENAI = (
    "openai.resources.chat.completions",
    "openai.resources.chat.completions.completions",
    "openai.resources.completions",
    "openai.resources.beta.chat.completions",  # parse, in 1.40 to 1.98
    "openai.resources.responses",
    "openai.resources.responses.responses",
)
"""Where the client's classes are, over the versions of openai."""

HOOKS = (
    ("vllm.v1.core.sched.scheduler", "contextpilot_hooks.vllm:attach"),
    ("sglang.srt.managers.scheduler", "contextpilot_hooks.sglang:attach"),
    *((module, "contextpilot_hooks.openai:attach") for module in OPENAI),
)
"""Module of the host, and our function that gets it (see importhook)."""


def start() -> None:
    """Register the hooks when CONTEXTPILOT_INDEX_URL is set. Idempotent, never raises."""
    if not os.environ.get("CONTEXTPILOT_INDEX_URL"):
        return
    try:
        if any(os.path.exists(os.path.join(folder, SWITCH)) for folder in sys.path if folder):
            return
        from .importhook import when_imported

        for module, attach in HOOKS:
            when_imported(module, attach)
    except Exception as error:
        import logging

        logging.getLogger("contextpilot.hooks").warning(
            "contextpilot: hooks not started: %r", error
        )
