"""The OpenAI client, unchanged, sends the id of what `optimize` returned, however it is rebuilt."""

from __future__ import annotations

import asyncio
import copy
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from contextpilot_hooks.prompts import PROMPTS
from scripted_engine import Engine, scripted_engine

import contextpilot as cp

openai = pytest.importorskip("openai", reason="pip install openai")

SYSTEM = {"role": "system", "content": "be brief"}
BLOCKS = ["a block", "another"]


@pytest.fixture
def engine() -> Iterator[Engine]:
    with scripted_engine() as told:
        yield told


@pytest.fixture
def client(engine: Engine) -> Iterator[Any]:
    with openai.OpenAI(base_url=engine.url, api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
def pilot() -> Iterator[cp.ContextPilot]:
    PROMPTS.clear()
    with cp.ContextPilot(listen="127.0.0.1:0") as made:
        yield made
    PROMPTS.clear()


def test_ids_are_sent_and_the_prompt_is_untouched(
    engine: Engine, client: Any, pilot: cp.ContextPilot
) -> None:
    messages = pilot.optimize(BLOCKS, "q")
    client.chat.completions.create(model="m", messages=messages)
    client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
    assert engine.ids() == [messages.request_id, None]
    assert engine.seen[0][1]["messages"] == list(messages)
    assert engine.seen[1][1] == {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


REBUILT: dict[str, Callable[[Any], Any]] = {
    "in a display": lambda m: [SYSTEM, *m],
    "list": list,
    "comprehension": lambda m: [dict(one) for one in m],
    "json": lambda m: json.loads(json.dumps(m)),
    "deepcopy of a list": lambda m: copy.deepcopy(list(m)),
    "tuple": tuple,
    "parts": lambda m: [
        {"role": "user", "content": [{"type": "text", "text": m[-1]["content"]}]},
    ],
    "with a prefill": lambda m: [*m, {"role": "assistant", "content": "So"}],
}


@pytest.mark.parametrize("name", REBUILT)
def test_rebuilt_messages_are_found_by_content(
    engine: Engine, client: Any, pilot: cp.ContextPilot, name: str
) -> None:
    messages = pilot.optimize(BLOCKS, "q")
    pilot.optimize(BLOCKS[::-1], "another q")
    client.chat.completions.create(model="m", messages=REBUILT[name](messages))
    assert engine.ids() == [messages.request_id]


def test_later_turns_are_other_prompts(engine: Engine, client: Any, pilot: cp.ContextPilot) -> None:
    messages = pilot.optimize(BLOCKS, "q")
    later = [{"role": "assistant", "content": "a"}, {"role": "user", "content": "and then?"}]
    client.chat.completions.create(model="m", messages=[*messages, *later])
    client.chat.completions.create(model="m", messages=messages + later)
    messages += later
    client.chat.completions.create(model="m", messages=messages)
    assert engine.ids() == [None] * 3


def test_one_text_planned_for_two_tenants_has_no_id_without_its_messages(
    engine: Engine, client: Any, pilot: cp.ContextPilot
) -> None:
    ours = pilot.optimize(BLOCKS, "q", namespace="a")
    pilot.optimize(BLOCKS, "q", namespace="b")
    client.chat.completions.create(model="m", messages=list(ours))
    client.chat.completions.create(model="m", messages=ours)
    assert engine.ids() == [None, ours.request_id]


def test_batches_are_found_too(engine: Engine, client: Any, pilot: cp.ContextPilot) -> None:
    prompts, _ = pilot.optimize_batch([BLOCKS, BLOCKS[:1]], ["q", "r"])
    for prompt in prompts:
        client.chat.completions.create(model="m", messages=list(prompt))
    assert engine.ids() == [prompt.request_id for prompt in prompts]


def test_the_same_prompt_sent_often_at_once_has_ids_that_all_name_it(
    engine: Engine, client: Any, pilot: cp.ContextPilot
) -> None:
    """Engines refuse a second request with an id that is in flight."""
    messages = pilot.optimize(BLOCKS, "q")
    ask = client.chat.completions.create
    threads = [
        threading.Thread(target=ask, kwargs={"model": "m", "messages": one})
        for one in [messages, list(messages)] * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = engine.ids()
    assert len(set(ids)) == 8
    assert messages.request_id in ids
    assert all(str(one).startswith(messages.request_id) for one in ids)


def test_a_retry_of_the_client_has_the_same_id(
    engine: Engine, client: Any, pilot: cp.ContextPilot
) -> None:
    messages, engine.failures = pilot.optimize(BLOCKS, "q"), 1
    client.with_options(max_retries=2).chat.completions.create(model="m", messages=messages)
    assert engine.ids() == [messages.request_id] * 2


def test_every_way_of_asking_sends_the_id(
    engine: Engine, client: Any, pilot: cp.ContextPilot
) -> None:
    chat, planned = client.chat.completions, []

    def fresh(**more: Any) -> dict[str, Any]:
        planned.append(pilot.optimize(BLOCKS, f"question {len(planned)}"))
        return {"model": "m", "messages": list(planned[-1]), **more}

    list(chat.create(**fresh(stream=True)))
    chat.with_raw_response.create(**fresh()).parse()
    with chat.with_streaming_response.create(**fresh()) as response:
        response.read()
    client.with_options(timeout=9).chat.completions.create(**fresh())
    parse = getattr(chat, "parse", None) or client.beta.chat.completions.parse
    parse(**fresh())
    with (getattr(chat, "stream", None) or client.beta.chat.completions.stream)(
        **fresh()
    ) as events:
        list(events)
    if hasattr(client, "responses"):
        asked = fresh()
        client.responses.create(model="m", input=asked["messages"])
        asked = fresh()
        client.responses.create(model="m", input=asked["messages"][-1]["content"])
    assert engine.ids() == [prompt.request_id for prompt in planned]


def test_async_clients_send_the_id(engine: Engine, pilot: cp.ContextPilot) -> None:
    planned = [pilot.optimize(BLOCKS, f"question {number}") for number in range(3)]

    async def ask() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=engine.url, api_key="none") as client:
            create = client.chat.completions.create
            answers = [create(model="m", messages=list(one)) for one in planned]
            return list(await asyncio.gather(*answers))

    answers = asyncio.run(ask())
    assert sorted(map(str, engine.ids())) == sorted(prompt.request_id for prompt in planned)
    assert all(answer.usage.prompt_tokens == 50 for answer in answers)


def test_blocks_to_write_oneself_name_their_request(pilot: cp.ContextPilot) -> None:
    [context], _ = pilot.reorder(BLOCKS)
    assert pilot.explain(context.request_id).reason != "unknown"


def test_messages_are_explained_after_the_conversation_went_on(pilot: cp.ContextPilot) -> None:
    messages = pilot.optimize(BLOCKS, "q")
    messages.append({"role": "user", "content": "more"})
    assert messages.request_id == ""
    assert pilot.explain(messages).reason != "unknown"


@pytest.mark.parametrize("in_display", [False, True])
def test_what_is_put_in_front_is_not_taken_for_blocks(
    engine: Engine, client: Any, pilot: cp.ContextPilot, in_display: bool
) -> None:
    """Of a prompt whose first half is a system message, half is left: no block of it."""
    blocks = [f"words of a block, number {n}. " * 10 for n in range(6)]
    messages = pilot.optimize(blocks, "q")
    index = pilot._namespaces.get("default").index
    planned = index._requests[messages.request_id].total
    system = {"role": "system", "content": "words of a rule, and one more. " * 65}
    sent = [system, *messages] if in_display else [system] + messages  # noqa: RUF005
    for _ in range(2):  # however often it is sent
        client.chat.completions.create(model="m", messages=sent)
    assert engine.ids()[0] == messages.request_id
    whole = index._requests[messages.request_id].total
    assert whole == pytest.approx(2 * planned, rel=0.1)
    assert index.match(index._requests[messages.request_id].keys) == 6
    with pilot._namespaces.get("default").lock:
        index.set_cached(messages.request_id, whole - planned, whole)
    assert index.live_tokens(messages.request_id) == 0
