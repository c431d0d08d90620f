"""The official clients through the proxy to real llama-server: the same as direct, and it hits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_drive import Rig, rig
from proxy_calls import CALLS, result
from servers import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(300)]

BLOCKS = [
    f"Report {i}: the {word} was counted {i * 7} times in the valley, and {i} times on the hill."
    for i, word in enumerate(("heron", "otter", "beetle", "willow"))
]


@pytest.fixture(scope="module")
def made(engine: Callable[[str], Any]) -> Iterator[Rig]:
    engine("llamacpp")
    with rig(["--parallel", "4", "--jinja"]) as running:
        yield running


def untimed(content: Any) -> Any:
    """Return a result without what depends on time and cache."""
    if isinstance(content, dict):
        return {name: untimed(value) for name, value in content.items() if name not in VARYING}
    if isinstance(content, (list, tuple)):
        return [untimed(item) for item in content]
    return content


LEFT_OUT = {"chat: negative length", "chat: too long", "completions stream: prompts"}
"""llama-server then generates until its context is full, or streams what the client cannot read."""
VARYING = {"timings", "input_tokens"}
"""Besides the timings: Anthropic's count of the prompt tokens that were not cached."""


@pytest.mark.parametrize("name", [name for name in CALLS if name not in LEFT_OUT])
def test_a_call_gives_the_same_as_direct(made: Rig, name: str) -> None:
    urls = (made.engine.base_url, made.proxy.url)
    direct, proxied = (untimed(result(CALLS[name], url)) for url in urls)
    assert proxied == direct


APIS: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": [{"role": "user", "content": "Which?"}], "max_tokens": 3},
    "completions": {"prompt": "Which?", "max_tokens": 3},
    "responses": {"input": "Which?", "max_output_tokens": 3},
    "messages": {"messages": [{"role": "user", "content": "Which?"}], "max_tokens": 3},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", APIS)
def test_every_api_tells_which_prompt_a_slot_holds(made: Rig, path: str, stream: bool) -> None:
    """Streamed or not, in each API the answer's token counts lead to its run."""
    before = made.state["num_matched"], made.state["num_unmatched"]
    blocks = [f"{path} {stream}. {block}" for block in BLOCKS]
    given = {"model": "tiny", "temperature": 0, "stream": stream, **APIS[path]}
    for order in (blocks, blocks[::-1]):
        field = {"contexts": order, "options": {"displacement_cost": 0}}
        body = {**given, "contextpilot": field}
        answer = made.proxy.post(f"/v1/{path}", body)
        assert answer.status == 200, answer.body
    wait_until(lambda: not made.slots.num_pending)
    assert made.state["num_matched"] == before[0] + 2
    assert made.state["num_unmatched"] == before[1]
    told = made.proxy.get(f"/explain/{answer.result['request_id']}").json()
    assert told["cached_tokens"] > 60
    assert told["cached_tokens"] < told["prompt_tokens"]
