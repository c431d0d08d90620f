"""The ways to send the same requests that a run compares.

| arm           | blocks                                            | requests           |
|---------------|---------------------------------------------------|--------------------|
| plain         | as given                                          | in order           |
| random        | shuffled within each request                      | in order           |
| sorted        | sorted by their text                              | in order           |
| dedup         | as given, later copies left out                   | in order           |
| deduplicated  | as given, later copies as reference hints         | in order           |
| reordered     | planned one request at a time, not annotated      | in order           |
| online        | planned one request at a time, annotated          | in order           |
| batch         | planned all at once, annotated                    | in planned order   |
| online-full   | as `online`, moving for whatever may be gained    | in order           |
| batch-full    | as `batch`, moving for whatever may be gained     | in planned order   |
| proxy         | planned by `contextpilot serve` before the engine | in order           |
| synced        | planned on that server, which hears of evictions  | in order           |
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from contextpilot.bench.prompts import Prompt, Requests, pieces_of, written
from contextpilot.engines.base import EngineKind
from contextpilot.engines.registry import OTHER
from contextpilot.pilot import ContextPilot
from contextpilot.prompt.messages import Messages

Steps = Iterator[Prompt]
Write = Callable[[Requests, str], Steps]


@dataclass(frozen=True)
class Setting:
    """What the arms may be told.

    Attributes:
        seed: of the arm `random`.
        options: of planning, as for `ContextPilot`.
        server_url: a `contextpilot serve` before the engine; for `proxy` and `synced`.
        kind: of the engine: how it is told a request's id.
    """

    seed: int = 0
    options: Mapping[str, Any] | None = None
    server_url: str = ""
    kind: EngineKind = OTHER


@dataclass(frozen=True)
class Arm:
    """One way to send the requests.

    Attributes:
        name: as in the table above.
        write: yields the prompts of a run in execution order, each planned when it is asked for.
        through_server: whether they go through the server instead of straight to the engine.
        plans_whole: whether all is planned before the first prompt.
        needs_events: whether it means nothing unless the engine tells what it evicts.
    """

    name: str
    write: Write
    through_server: bool = False
    plans_whole: bool = False
    needs_events: bool = False


COMPARISONS = ("plain", "random", "sorted", "dedup", "deduplicated")
PLANNED = ("reordered", "online", "batch", "online-full", "batch-full")
SERVED = ("proxy", "synced")
ARMS = (*COMPARISONS, *PLANNED, *SERVED)
DEFAULT_ARMS = ("plain", "online", "batch", "proxy")
ANSWER_ARMS = ("plain", "reordered", "online", "deduplicated")


def make_arm(name: str, setting: Setting) -> Arm:
    """Return the arm of this name. Raises ValueError that lists the known names."""
    options = dict(setting.options or {})
    kept = {"reorder": False, "annotate": False}
    full = options | {"displacement_cost": 0, "anchor": "none"}
    makers: dict[str, Callable[[], Arm]] = {
        "plain": lambda: Arm(name, _ordered(lambda blocks, _: range(len(blocks)))),
        "random": lambda: Arm(name, _ordered(_shuffled(setting.seed))),
        "sorted": lambda: Arm(name, _ordered(_by_text)),
        "dedup": lambda: Arm(name, _ordered(_first_copies)),
        "deduplicated": lambda: Arm(name, _online(options | kept)),
        "reordered": lambda: Arm(name, _online(options | {"annotate": False})),
        "online": lambda: Arm(name, _online(options)),
        "batch": lambda: Arm(name, _batch(options), plans_whole=True),
        "online-full": lambda: Arm(name, _online(full)),
        "batch-full": lambda: Arm(name, _batch(full), plans_whole=True),
        "proxy": lambda: Arm(name, _proxied(options), through_server=True),
        "synced": lambda: Arm(
            name, _online(options, setting.server_url, setting.kind), needs_events=True
        ),
    }
    if name not in makers:
        raise ValueError(f"{name!r} is not a mode: the modes are {', '.join(ARMS)}")
    return makers[name]()


def _ordered(order_of: Callable[[list[Any], int], Any]) -> Write:
    """Write blocks in an order that needs no planner."""

    def write(requests: Requests, salt: str) -> Steps:
        for position, blocks in enumerate(requests.contexts):
            yield written(requests, position, tuple(order_of(list(blocks), position)), salt)

    return write


def _shuffled(seed: int) -> Callable[[list[Any], int], list[int]]:
    def order(blocks: list[Any], position: int) -> list[int]:
        ranks = list(range(len(blocks)))
        random.Random(f"{seed}/{position}").shuffle(ranks)
        return ranks

    return order


def _by_text(blocks: list[Any], _: int) -> list[int]:
    return sorted(range(len(blocks)), key=lambda rank: blocks[rank].text)


def _first_copies(blocks: list[Any], _: int) -> list[int]:
    first: dict[Any, int] = {}
    for rank, block in enumerate(blocks):
        first.setdefault(block.key, rank)
    return list(first.values())


def _online(options: Mapping[str, Any], index_url: str = "", kind: EngineKind = OTHER) -> Write:
    """Plan one request at a time, with a planner that knows nothing at the start."""

    def write(requests: Requests, salt: str) -> Steps:
        pilot = ContextPilot(index_url=index_url, namespace=f"bench {salt}", **options)
        system = requests.salted(salt)
        for position, blocks in enumerate(requests.contexts):
            started = time.perf_counter()
            messages = pilot.optimize(
                [block.value for block in blocks],
                requests.question(position),
                system_instruction=system,
            )
            seconds = time.perf_counter() - started
            prompt = _planned(requests, position, messages, seconds)
            yield replace(prompt, members=kind.members("chat", messages.request_id))
        pilot.close()

    return write


def _batch(options: Mapping[str, Any]) -> Write:
    def write(requests: Requests, salt: str) -> Steps:
        planned, order = ContextPilot(index_url="", **options).optimize_batch(
            [[block.value for block in blocks] for blocks in requests.contexts],
            [requests.question(position) for position in range(len(requests))],
            system_instruction=requests.salted(salt),
        )
        for position, messages in zip(order, planned, strict=True):
            yield _planned(requests, position, messages, 0.0)

    return write


def _planned(requests: Requests, position: int, messages: Messages, seconds: float) -> Prompt:
    headers = {"X-Request-Id": messages.request_id}
    pieces = pieces_of(messages, requests.contexts[position])
    return Prompt(position, messages, pieces, {}, headers, seconds)


def _proxied(options: Mapping[str, Any]) -> Write:
    """Hand the blocks over as blocks. What the server will make of them is only predicted."""
    shadow = _online(options)

    def write(requests: Requests, salt: str) -> Steps:
        for expected in shadow(requests, salt):
            blocks = requests.contexts[expected.position]
            field: dict[str, Any] = {
                "contexts": [block.text for block in blocks],
                "namespace": f"bench {salt}",
            }
            if options:
                field["options"] = dict(options)
            messages = [
                {"role": "system", "content": requests.salted(salt)},
                {"role": "user", "content": requests.question(expected.position)},
            ]
            yield replace(
                expected,
                messages=messages,
                members={"contextpilot": field},
                headers={},
                plan_s=0.0,
            )

    return write
