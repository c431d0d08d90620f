"""Ray Data: one plan for a whole batch, sent in its order by several workers, nothing twice.

    from contextpilot.integrations.ray import ask, plan

    planned = plan(dataset, partitions=4)
    answers = ask(planned, "http://127.0.0.1:8000/v1", model="...").materialize()

Written against Ray 2.60. `plan` and `ask` need `ray[data]`; `processor_config` needs what
`ray.data.llm` needs for HTTP, which is aiohttp.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from contextpilot.integrations.ray.asking import ask
    from contextpilot.integrations.ray.partitions import plan
    from contextpilot.integrations.ray.processor import payload, processor_config
    from contextpilot.integrations.ray.sender import start_outbox

__all__ = ["ask", "payload", "plan", "processor_config", "start_outbox"]

_HOMES = {
    "ask": "asking",
    "payload": "processor",
    "plan": "partitions",
    "processor_config": "processor",
    "start_outbox": "sender",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
