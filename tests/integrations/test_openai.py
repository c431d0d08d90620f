"""A wrapped OpenAI client, over sockets; run with the oldest version too, by test_stacks.py."""

from __future__ import annotations

import asyncio
import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scripted_engine import Engine, scripted_engine

import contextpilot as cp
from contextpilot.client import Client
from contextpilot.openai import Totals, planned, totals, wrap

openai = pytest.importorskip("openai", reason="pip install openai")
pydantic = pytest.importorskip("pydantic")

WORST: dict[str, Any] = {"displacement_cost": 0, "min_gain_tokens": 0}
FIRST, TURNED = (0, 1, 2), (3, 2, 1, 0)
PLANNED = (0, 1, 2, 3)


def text(number: int) -> str:
    words = random.Random(number)
    return f"Passage {number}. " + " ".join(f"word{words.randrange(999)}" for _ in range(40))


def retrieved(numbers: tuple[int, ...], question: str = "What is a heron?") -> str:
    shown = "\n".join(f"<document>{text(number)}</document>" for number in numbers)
    return f"Use the following retrieved documents.\n{shown}\n\n{question}"


def ask(numbers: tuple[int, ...], question: str = "What is a heron?") -> list[dict[str, Any]]:
    system = {"role": "system", "content": "Be brief."}
    return [system, {"role": "user", "content": retrieved(numbers, question)}]


def is_planned_as(numbers: tuple[int, ...], content: str) -> bool:
    places = [content.find(text(number)) for number in numbers]
    return min(places) >= 0 and places == sorted(places)


def body_of(engine: Engine, number: int) -> dict[str, Any]:
    """A request without the id that the hooks add, where a test before this one loaded them."""
    return {name: value for name, value in engine.seen[number][1].items() if name != "rid"}


@pytest.fixture
def engine() -> Iterator[Engine]:
    with scripted_engine() as told:
        yield told


@pytest.fixture
def pilot() -> Iterator[cp.ContextPilot]:
    with cp.ContextPilot(index_url="", **WORST) as made:
        yield made


@pytest.fixture
def plain(engine: Engine) -> Iterator[Any]:
    with openai.OpenAI(base_url=engine.url, api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture
def client(plain: Any, pilot: cp.ContextPilot) -> Any:
    return wrap(plain, pilot)


def test_messages_are_planned_and_all_else_goes_as_it_is(
    engine: Engine, client: Any, plain: Any
) -> None:
    create = client.chat.completions.create
    first = create(model="m", messages=ask(FIRST), temperature=0.5, seed=3, user="u")
    given = ask(TURNED)
    kept = copy.deepcopy(given)
    tools = [{"type": "function", "function": {"name": "search", "parameters": {}}}]
    create(model="m", messages=ask(FIRST), tools=tools)
    answer = create(model="m", messages=given, tools=tools, extra_body={"top_k": 5}, stop=["x"])
    assert given == kept
    options = {"temperature": 0.5, "seed": 3, "user": "u"}
    assert body_of(engine, 0) == {"model": "m", "messages": ask(FIRST), **options}
    sent = body_of(engine, 2)
    messages = sent.pop("messages")
    assert sent == {"model": "m", "tools": tools, "top_k": 5, "stop": ["x"]}
    assert messages[0] == given[0]
    assert is_planned_as(PLANNED, messages[1]["content"])
    done = planned(answer)
    assert done is not None
    assert done.order == (3, 2, 1, 0)
    assert done.live_tokens > done.total_tokens // 2
    assert "contextpilot" not in answer.model_dump_json()
    assert planned(first) is not None
    plain.chat.completions.create(model="m", messages=given)
    assert engine.seen[3][1]["messages"] == given  # the client that was given does not plan


WAYS: dict[str, Callable[[Any, list[Any]], Any]] = {
    "create": lambda c, m: c.chat.completions.create(model="m", messages=m),
    "stream": lambda c, m: list(c.chat.completions.create(model="m", messages=m, stream=True)),
    "raw": lambda c, m: c.chat.completions.with_raw_response.create(model="m", messages=m).parse(),
    "raw client": lambda c, m: c.with_raw_response.chat.completions.create(model="m", messages=m),
    "options": lambda c, m: c.with_options(timeout=9).chat.completions.create(
        model="m", messages=m
    ),
    "copies": lambda c, m: (
        c.copy().with_options(timeout=9).copy().chat.completions.create(model="m", messages=m)
    ),
    "tuple": lambda c, m: c.chat.completions.create(model="m", messages=tuple(m)),
    "text": lambda c, m: c.responses.create(
        model="m", input=m[1]["content"], instructions=m[0]["content"]
    ),
    "items": lambda c, m: c.responses.create(model="m", input=m),
    "parse": lambda c, m: _of(c, "parse")(model="m", messages=m),
    "events": lambda c, m: _entered(_of(c, "stream")(model="m", messages=m)),
    "streaming": lambda c, m: _entered(
        c.chat.completions.with_streaming_response.create(model="m", messages=m)
    ),
}


def _of(client: Any, name: str) -> Any:
    return getattr(client.chat.completions, name, None) or getattr(
        client.beta.chat.completions, name
    )


def _entered(manager: Any) -> None:
    with manager as answer:
        answer.read() if hasattr(answer, "read") else list(answer)


HAS_RESPONSES = hasattr(openai.OpenAI, "responses")
HAS_PARSE = hasattr(openai.resources.Completions, "parse") or hasattr(openai.resources.Beta, "chat")
MISSING = (() if HAS_RESPONSES else ("text", "items")) + (() if HAS_PARSE else ("parse", "events"))
"""1.30 had neither; `parse` and `stream` came in 1.40, Responses in 1.66."""


def test_the_newest_client_has_every_way_of_asking() -> None:
    assert not MISSING or openai.__version__.startswith("1.")


@pytest.mark.parametrize("way", sorted(WAYS.keys() - {*MISSING}))
def test_every_way_of_asking_plans_once(engine: Engine, client: Any, way: str) -> None:
    WAYS[way](client, ask(FIRST))
    WAYS[way](client, ask(TURNED))
    assert len(engine.seen) == 2
    assert is_planned_as(PLANNED, _sent(engine.seen[1][1]))
    assert totals(client).requests == totals(client).planned == 2


def _sent(body: dict[str, Any]) -> str:
    content = body.get("messages") or body["input"]
    if isinstance(content, str):
        assert body["instructions"] == "Be brief."
        return content
    assert content[0] == {"role": "system", "content": "Be brief."}
    return str(content[1]["content"])


def test_async_clients_plan_beside_each_other(engine: Engine, pilot: cp.ContextPilot) -> None:
    async def go() -> Totals:
        async with openai.AsyncOpenAI(base_url=engine.url, api_key="none") as plain:
            client = wrap(plain, pilot)
            create = client.chat.completions.create
            await create(model="m", messages=ask(FIRST))
            calls = [
                create(model="m", messages=ask(TURNED, "What is a heron?" + "?" * n))
                for n in range(8)
            ]
            answers = await asyncio.gather(*calls)
            assert all(planned(answer) is not None for answer in answers)
            stream = await client.with_options(timeout=9).chat.completions.create(
                model="m", messages=ask(TURNED), stream=True
            )
            assert [chunk async for chunk in stream]
            raw = await client.chat.completions.with_raw_response.create(
                model="m", messages=ask(TURNED)
            )
            assert raw.parse().choices
            made = client.chat.completions.with_streaming_response.create(
                model="m", messages=ask(TURNED)
            )
            async with made as response:
                await response.read()
            return totals(client)

    told = asyncio.run(go())
    assert (told.requests, told.planned, told.failed) == (12, 12, 0)
    assert told.prompt_tokens == 9 * 50  # streams and raw answers do not tell
    assert all(is_planned_as(PLANNED, _sent(body)) for _, body in engine.seen[1:])


def _without(client: Any, **arguments: Any) -> None:
    client.chat.completions.create(model="m", **arguments)


def test_what_there_is_nothing_to_do_for_goes_as_it_is(engine: Engine, client: Any) -> None:
    hello = [{"role": "user", "content": "Hello"}]
    answer = client.chat.completions.create(model="m", messages=hello)
    assert planned(answer) is None
    client.chat.completions.create(model="m", messages=iter(hello))
    assert [body["messages"] for _, body in engine.seen] == [hello, hello]
    with pytest.raises(TypeError):
        client.chat.completions.create(model="m")
    if HAS_RESPONSES:
        _without(client, messages=ask(FIRST))
        client.responses.create(model="m", input=retrieved(TURNED), previous_response_id="r")
        assert engine.seen[-1][1]["input"] == retrieved(TURNED)
    assert totals(client).planned == len(engine.seen) // 4


def test_what_was_planned_already_is_not_planned_again(engine: Engine, plain: Any) -> None:
    with cp.ContextPilot(listen="127.0.0.1:0", **WORST) as pilot:
        client = wrap(plain, pilot)
        texts = [text(number) for number in FIRST]
        once = pilot.optimize(texts, "Question: why?")
        rebuilt = [{"role": "system", "content": "x"}, *once]
        client.chat.completions.create(model="m", messages=once)
        client.chat.completions.create(model="m", messages=rebuilt)
        done = pilot.rewrite(ask(FIRST))
        client.chat.completions.create(model="m", messages=done.messages)
        assert [body["messages"] for _, body in engine.seen] == [once, rebuilt, done.messages]
        ids = [str(one) for one in engine.ids()]
        assert ids == [once.request_id, f"{once.request_id}-2", done.request_id]
        assert totals(client).planned == 0


def test_ids_reach_the_engine_and_its_events_the_index(engine: Engine, plain: Any) -> None:
    with cp.ContextPilot(listen="127.0.0.1:0", **WORST) as pilot:
        client = wrap(plain, pilot)
        answer = client.chat.completions.create(model="m", messages=ask(FIRST))
        stream = client.chat.completions.create(model="m", messages=ask(TURNED), stream=True)
        done = [planned(answer), planned(stream)]
        list(stream)
        assert all(one is not None for one in done)
        ids = [one.request_id for one in done if one is not None]
        assert engine.ids() == ids
        if HAS_RESPONSES:
            client.responses.create(model="m", input=retrieved(TURNED))
            assert engine.ids()[-1] is not None
        assert pilot.index_url is not None
        with Client(pilot.index_url) as told:
            known = told.evict([str(one) for one in engine.ids()])
        assert known["known"] == len(engine.seen)
        again = client.chat.completions.create(model="m", messages=ask(FIRST))
        after = planned(again)
        assert after is not None
        assert after.live_tokens == 0


def test_a_failure_of_ours_sends_the_request_as_given(
    engine: Engine, plain: Any, pilot: cp.ContextPilot, monkeypatch: Any, caplog: Any
) -> None:
    client = wrap(plain, pilot)

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(pilot, "rewrite", fail)
    for _ in range(2):
        client.chat.completions.create(model="m", messages=ask(FIRST))
    assert [body["messages"] for _, body in engine.seen] == [ask(FIRST)] * 2
    assert totals(client) == Totals(requests=2, failed=2)
    assert [record.levelname for record in caplog.records].count("WARNING") == 1


def test_a_request_that_failed_is_not_believed(
    engine: Engine, client: Any, pilot: cp.ContextPilot
) -> None:
    engine.failures = 1
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(model="m", messages=ask(FIRST))
    assert pilot.stats()["default"]["num_blocks"] == 0
    assert totals(client).planned == 0


def test_answers_that_count_documents_keep_their_order(engine: Engine, client: Any) -> None:
    class Choice(pydantic.BaseModel):  # type: ignore[name-defined, misc]
        best_index: int

    schema = {"type": "json_schema", "json_schema": {"name": "c", "schema": _schema(Choice)}}
    client.chat.completions.create(model="m", messages=ask(FIRST))
    client.chat.completions.create(model="m", messages=ask(TURNED), response_format=schema)
    client.chat.completions.create(
        model="m", messages=ask(TURNED), extra_body={"guided_json": _schema(Choice)}
    )
    if hasattr(client.chat.completions, "parse"):
        client.chat.completions.create(model="m", messages=ask(FIRST))
        with pytest.raises(pydantic.ValidationError):  # the engine answers {}
            client.chat.completions.parse(model="m", messages=ask(TURNED), response_format=Choice)
    for _, body in engine.seen[1:3] + engine.seen[4:]:
        assert body["messages"] == ask(TURNED)


def _schema(model: Any) -> Any:
    return json.loads(json.dumps(model.model_json_schema()))


def test_options_hold_for_every_call(engine: Engine, plain: Any, pilot: cp.ContextPilot) -> None:
    still, other = wrap(plain, pilot, reorder=False), wrap(plain, pilot, namespace="other")
    wrap(plain, pilot).chat.completions.create(model="m", messages=ask(FIRST))
    for client in (still, other, wrap(plain, pilot, mode="off")):
        client.chat.completions.create(model="m", messages=ask(TURNED))
    assert [body["messages"] for _, body in engine.seen[1:]] == [ask(TURNED)] * 3
    assert pilot.stats()["other"]["requests"] == 1


def test_a_wrapped_client_is_wrapped_anew(engine: Engine, client: Any) -> None:
    with cp.ContextPilot(index_url="", **WORST) as own:
        again = wrap(client, own)
        again.chat.completions.create(model="m", messages=ask(FIRST))
        assert totals(again).planned == 1
        assert totals(client).requests == 0
        assert own.stats()["default"]["requests"] == 1


def test_what_a_token_weighs_is_learnt(client: Any, pilot: cp.ContextPilot) -> None:
    for number in range(8):
        client.chat.completions.create(
            model="m", messages=ask(FIRST, "What is a heron?" + "?" * number)
        )
    assert pilot.stats()["default"]["weights"] == "learnt"
    assert totals(client).prompt_tokens == 8 * 50


def test_errors_name_the_argument(plain: Any) -> None:
    with pytest.raises(TypeError, match="client must be an OpenAI"):
        wrap("http://127.0.0.1")
    with pytest.raises(TypeError, match="anotate"):
        wrap(plain, anotate=False)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="mode"):
        wrap(plain, mode="xlm")
    with pytest.raises(TypeError, match="client must be one that wrap returned"):
        totals(plain)
