"""What Ray's users see, on a local cluster; run by test_stacks.py where Ray is."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}

import ray
from answering import answering
from guides import run_blocks
from ray.data.llm import build_processor

import contextpilot as cp
from contextpilot.block import estimate_tokens
from contextpilot.integrations.ray import ask, payload, plan, processor_config, start_outbox
from contextpilot.integrations.ray.asking import Worker
from contextpilot.plan.simulate import simulate

COUNT, FEW = 240, 80


def text(number: int) -> str:
    words = random.Random(number)
    return f"Passage {number}. " + " ".join(f"word{words.randrange(999)}" for _ in range(30))


def rows(count: int = COUNT) -> list[dict[str, Any]]:
    """Requests over topics: eight of the twelve passages of one, two of anything."""
    chance, made = random.Random(5), []
    for number in range(count):
        topic = chance.randrange(count // 12)
        own = chance.sample(range(12 * topic, 12 * topic + 12), 8)
        passages = [text(one) for one in (*own, *chance.sample(range(5000, 9000), 2))]
        made.append({"contexts": passages, "query": f"Question {number}?", "id": f"r{number}"})
    return made


class Endpoint:
    """Answers with the last line of the question; keeps what arrived, and waits while closed."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.bodies: list[dict[str, Any]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.at_once = self.most = 0
        self.lock = threading.Lock()
        self.url = ""

    def answer(self, body: Any, headers: Any) -> tuple[int, Any]:
        message = {"role": "assistant", "content": f"answer to {self.take(body)}"}
        return 200, {"choices": [{"index": 0, "message": message}]}

    def take(self, body: dict[str, Any]) -> str:
        question = body["messages"][-1]["content"].splitlines()[-1]
        with self.lock:
            self.seen.append(question)
            self.bodies.append(body)
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        time.sleep(0.002)
        self.gate.wait(60)
        with self.lock:
            self.at_once -= 1
        return question

    def wait_for(self, count: int) -> None:
        while len(self.seen) < count:
            time.sleep(0.01)


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    told = Endpoint()
    with answering(told.answer) as address:
        told.url = f"{address}/v1"
        yield told
        told.gate.set()


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    small: dict[str, Any] = {"num_cpus": 2, "object_store_memory": 100 << 20}
    try:
        ray.init(include_dashboard=False, log_to_driver=False, **small)
    except Exception:  # it waits for 30 s, and no longer, however busy the machine is
        ray.shutdown()
        ray.init(include_dashboard=False, log_to_driver=False, **small)
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def dataset(cluster: None) -> Any:
    return ray.data.from_items(rows(), override_num_blocks=3)


@pytest.fixture(scope="module")
def few(cluster: None) -> Any:
    return ray.data.from_items(rows(FEW), override_num_blocks=3)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the only outbox: starting one takes seconds. Each test asks another model."""
    return tmp_path_factory.mktemp("outbox") / "journal.jsonl"


@pytest.fixture(scope="module")
def outbox(cluster: None, journal: Path) -> Any:
    return start_outbox(journal)


def hit_ratio(partitions: list[list[list[str]]]) -> float:
    """In caches without bounds, one for each partition, in percent."""
    weights = {one: estimate_tokens(one) for part in partitions for row in part for one in row}
    sums = [simulate(part, weights) for part in partitions]
    return 100 * sum(one.hits for one in sums) / sum(one.tokens for one in sums)


def prompts(planned: Any) -> list[list[list[str]]]:
    """The blocks of each partition's rows as they stand in their messages."""
    given = {row["query"]: row["contexts"] for row in rows()}
    parts: dict[int, list[list[str]]] = {}
    for row in planned.take_all():
        blocks = [given[row["query"]][rank] for rank in row["order"]]
        content = row["messages"][-1]["content"]
        places = [content.index(block) for block in blocks]
        assert places == sorted(places)
        parts.setdefault(row["partition"], []).append(blocks)
    return [parts[number] for number in sorted(parts)]


def test_partitions_lose_less_than_two_tenths_of_a_point(dataset: Any) -> None:
    given = [row["contexts"] for row in rows()]
    found, order = cp.ContextPilot().reorder(given)
    whole = hit_ratio([[list(one) for one in found]])
    assert whole > 3 * hit_ratio([given])
    for partitions in (2, 4, 8):
        planned = plan(dataset, partitions)
        assert planned.num_blocks() == partitions
        parts = prompts(planned)
        assert [one for part in parts for one in part] == [list(one) for one in found]
        sizes = list(map(len, parts))
        assert len(sizes) == partitions
        assert max(sizes) <= 1.3 * COUNT / partitions
        assert hit_ratio(parts) > whole - 0.2, (partitions, sizes)
    places = [row["place"] for row in planned.take_all()]
    assert places == order


def test_a_batch_that_one_plan_cannot_hold_is_clustered(dataset: Any) -> None:
    planned = plan(dataset, 2, max_requests=COUNT // 2, system_instruction="Be brief.")
    told = planned.take_all()
    assert sorted(row["place"] for row in told) == list(range(COUNT))
    assert all(row["messages"][0]["content"] == "Be brief." for row in told)
    assert all(row["id"] == f"r{row['place']}" for row in told)
    assert "contexts" not in told[0]
    given = [row["contexts"] for row in rows()]
    middle = COUNT // 2
    halves = [cp.ContextPilot().reorder(half)[0] for half in (given[:middle], given[middle:])]
    by_halves = hit_ratio([[list(one) for one in half] for half in halves])
    assert hit_ratio(prompts(planned)) > by_halves


def assert_all_answered(answers: Any, count: int = FEW) -> None:
    told = answers.take_all()
    assert sorted(row["place"] for row in told) == list(range(count))
    for row in told:
        assert row["status"] == 200
        assert row["answer"] == f"answer to {row['query']}"


def sent_places(endpoint: Endpoint, planned: Any) -> list[list[int]]:
    """For each partition the places in its plan of what arrived, in order of arrival."""
    where = {row["query"]: row["partition"] for row in planned.take_all()}
    parts: dict[int, list[str]] = {}
    for query, number in where.items():
        parts.setdefault(number, []).append(query)
    return [
        [part.index(query) for query in endpoint.seen if where[query] == number]
        for number, part in sorted(parts.items())
    ]


def test_a_window_is_kept_and_no_larger_than_the_cache(endpoint: Endpoint, outbox: Any) -> None:
    planned = plan(ray.data.from_items(rows(24), override_num_blocks=1), 1)
    room = int(2.5 * max(row["tokens"] for row in planned.take_all()))
    told = sent_here(planned, endpoint, outbox, "window", window=4, cache_tokens=room)
    assert [row["answer"] for row in told] == [f"answer to {row['query']}" for row in told]
    assert endpoint.most == 2
    (places,) = sent_places(endpoint, planned)
    assert all(abs(at - place) < 2 for at, place in enumerate(places))


def sent_here(
    planned: Any,
    endpoint: Endpoint,
    outbox: Any,
    model: str,
    window: int = 1,
    cache_tokens: int | None = None,
) -> list[dict[str, Any]]:
    """What a worker does with a partition, in this process: starting one takes seconds."""
    urls = [f"{endpoint.url}/chat/completions"]
    worker = Worker(outbox, urls, window, cache_tokens, {"model": model})
    (batch,) = planned.iter_batches(batch_size=None, batch_format="pyarrow")
    told: list[dict[str, Any]] = worker(batch).to_pylist()
    return told


def processes(name: str) -> list[int]:
    """Processes of this cluster whose title says what they are."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            title = (entry / "cmdline").read_bytes().decode() if entry.name.isdigit() else ""
        except OSError:
            continue
        if title.startswith("ray::") and name in title and _is_ours(int(entry.name)):
            found.append(int(entry.name))
    return found


def _is_ours(process: int) -> bool:
    while process > 1 and process != os.getpid():
        try:
            process = int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return process == os.getpid()


def killed_half_way(answers: Any, endpoint: Endpoint, name: str) -> Any:
    """Consume a dataset while a process of it is killed in the middle of a request."""
    done: list[Any] = []
    worker = threading.Thread(target=lambda: done.append(answers.materialize()), daemon=True)
    worker.start()
    endpoint.wait_for(FEW // 3)
    endpoint.gate.clear()
    time.sleep(0.1)
    victims = processes(name)
    assert victims
    os.kill(max(victims), signal.SIGKILL)
    time.sleep(0.3)
    endpoint.gate.set()
    worker.join(120)
    (result,) = done
    return result


def test_a_worker_that_is_killed_loses_nothing_and_sends_nothing_twice(
    few: Any, endpoint: Endpoint, outbox: Any
) -> None:
    planned = plan(few, 2)
    answers = ask(planned, endpoint.url, outbox=outbox, model="worker", max_tokens=7)
    assert_all_answered(killed_half_way(answers, endpoint, "MapBatches(Worker)"))
    assert Counter(endpoint.seen).most_common(1)[0][1] == 1
    for places in sent_places(endpoint, planned):
        assert places == list(range(len(places)))  # in order, the killed worker's too
    assert {*endpoint.bodies[0]} == {"model", "max_tokens", "messages"}


def test_an_outbox_that_is_killed_repeats_nothing_that_was_answered(
    few: Any, endpoint: Endpoint, outbox: Any, journal: Path
) -> None:
    planned = plan(few, 1)
    answers = ask(planned, endpoint.url, outbox=outbox, model="outbox")
    assert_all_answered(killed_half_way(answers, endpoint, "Outbox"))
    twice = [query for query, times in Counter(endpoint.seen).items() if times > 1]
    assert len(twice) == 1  # what was on its way
    assert max(Counter(endpoint.seen).values()) == 2
    sent = len(endpoint.seen)
    same = start_outbox(journal)  # it still runs
    assert all(row["status"] == 200 for row in sent_here(planned, endpoint, same, "outbox"))
    assert len(endpoint.seen) == sent  # the job is run again: everything stands in the journal


def test_the_http_processor_keeps_order_and_sends_once(
    few: Any, endpoint: Endpoint, outbox: Any
) -> None:
    planned = plan(few, 1, slack=0)
    config = processor_config(planned, endpoint.url, outbox)
    processor = build_processor(
        config,
        preprocess=lambda row: {**row, "payload": payload(row, model="processor")},
        postprocess=lambda row: {
            "place": row["place"],
            "query": row["query"],
            "status": 200,
            "answer": row["http_response"]["choices"][0]["message"]["content"],
        },
    )
    assert_all_answered(killed_half_way(processor(planned), endpoint, "MapWorker"))
    assert Counter(endpoint.seen).most_common(1)[0][1] == 1
    assert {*endpoint.bodies[0]} == {"model", "messages"}


def test_errors_name_the_argument(dataset: Any) -> None:
    with pytest.raises(KeyError, match="the dataset has no column 'passages'; it has"):
        plan(dataset, 2, contexts="passages")
    with pytest.raises(ValueError, match="partitions must be at least 1"):
        plan(dataset, 0)
    with pytest.raises(ValueError, match="window must be at least 1"):
        ask(dataset, "http://127.0.0.1:1/v1", window=0)
    with pytest.raises(ValueError, match="in_doubt must be one of"):
        start_outbox(in_doubt="never")
    with pytest.raises(ValueError, match="max_in_flight must be at least 1"):
        start_outbox(max_in_flight=0)


def test_the_guides_code_runs(endpoint: Endpoint, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    run_blocks("ray.md", {"http://127.0.0.1:8000/v1": endpoint.url})
    assert len(endpoint.seen) == 10


def test_the_example_hits_more_than_twice_as_often(monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "examples"))
    import ray_batch

    assert ray_batch.planned() > 2 * ray_batch.as_given() > 0
