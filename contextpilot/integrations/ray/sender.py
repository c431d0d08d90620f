"""The outbox as an actor of its own: it lives on while workers die, and tells them what it sent."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Mapping
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from contextpilot.integrations.ray.outbox import Outbox, check


def start_outbox(
    journal: str | os.PathLike[str] | None = None,
    *,
    in_doubt: str = "again",
    timeout_s: float = 600.0,
    headers: Mapping[str, str] | None = None,
    max_in_flight: int = 64,
) -> Any:
    """Start the process that sends the requests of a job, on the driver's node.

    It ends with the driver, or with the last handle to it; while it runs, it is the outbox of all
    who name its journal. A worker that is killed loses nothing, and nothing is sent twice. If this
    process is killed itself, Ray starts it again, and it reads its journal.

    Args:
        journal: a file on the driver's node. Whoever names it again goes on where a job ended:
            what is answered there is not sent. Default: a new one in the temporary folder.
        in_doubt: what becomes of requests that were on their way when this process died: "again"
            sends them once more, under the same `Idempotency-Key`; "leave" gives them status 0.
        timeout_s: longest wait for one answer, in seconds.
        headers: sent with every request, for example `{"Authorization": "Bearer ..."}`.
        max_in_flight: requests that may be on their way at once.

    Raises:
        ValueError: an argument is out of range.
    """
    check(in_doubt, timeout_s)
    own = os.path.join(tempfile.gettempdir(), f"contextpilot-{uuid.uuid4().hex}.jsonl")
    path = os.path.abspath(journal or own)
    if max_in_flight < 1:
        raise ValueError(f"max_in_flight must be at least 1, but is {max_in_flight}")
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Outbox).options(
        name=f"contextpilot outbox {path}",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        max_task_retries=-1,
        max_concurrency=max_in_flight,
        scheduling_strategy=here,
    )
    outbox = actor.remote(path, in_doubt, timeout_s, dict(headers or {}))
    ray.get(outbox.set.remote(in_doubt, timeout_s, dict(headers or {})))
    return outbox
