"""Run real vLLM engines in this process and compare what its hook tells with what is reused.

    python vllm_hybrid_run.py '[{"model": FOLDER, "checks": 300, "options": {...}}, ...]'

Runs in vLLM's environment; prints a line of JSON for each job. Random bursts of prompts share
prefixes in a small cache; before each check the prediction is made from what was told alone, then
the prompt is sent and the engine's `cached_tokens` is read: the same again, and one that shares a
part. With "events" in a job the engine's own KV events predict, too.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
sys.path[:0] = [
    *(str(CHECKOUT / name) for name in ("tests/hooks", "hooks")),
    *(str(HERE), str(CHECKOUT)),
]

from adapter import ensure_adapter  # noqa: E402
from contextpilot_hooks import importhook  # noqa: E402
from event_index import EventIndex  # noqa: E402
from receiver import Receiver  # noqa: E402

BLOCK = 32
LENGTH = 1900
VOCABULARY = (5, 7000)
SPACES = "", "one", "two"
"""Names of what divides the cache, salts or LoRAs."""
OPTIONS: dict[str, Any] = {
    "load_format": "dummy",
    "enforce_eager": True,
    "dtype": "bfloat16",
    "max_model_len": 2048,
    "max_num_batched_tokens": 512,
    "max_num_seqs": 8,
    "block_size": BLOCK,
    "num_gpu_blocks_override": 200,
    "enable_prefix_caching": True,
    "disable_log_stats": True,
    "seed": 0,
}


class Engine:
    """A vLLM engine; prompts are lists of tokens."""

    def __init__(self, model: str, options: dict[str, Any]) -> None:
        from vllm import LLM

        self._adapter = str(ensure_adapter(Path(model))) if options.get("enable_lora") else ""
        self._engine = LLM(model=model, **{**OPTIONS, **options}).llm_engine
        self.preemptions = self.aborts = 0
        self._count_preemptions()
        self._random = random.Random(7)
        self.outputs = hashlib.sha256()
        self.different: set[str] = set()

    @property
    def coordinator(self) -> Any:
        return self._engine.engine_core.engine_core.scheduler.kv_cache_manager.coordinator

    def _count_preemptions(self) -> None:
        scheduler = self._engine.engine_core.engine_core.scheduler
        preempt = scheduler._preempt_request

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.preemptions += 1
            return preempt(*args, **kwargs)

        scheduler._preempt_request = counted

    def add(
        self, tokens: list[int], outputs: int, name: str = "", space: str = "", priority: int = 0
    ) -> str:
        """Queue a prompt; returns its name, one of ours if none is given.

        space: a LoRA's name where the engine takes LoRAs, else a salt.
        """
        from vllm import SamplingParams
        from vllm.inputs import TokensPrompt
        from vllm.lora.request import LoRARequest

        name = name or f"cp-{self._random.getrandbits(96):024x}"
        sampling = SamplingParams(max_tokens=outputs, temperature=0, ignore_eos=True)
        prompt = TokensPrompt(prompt_token_ids=tokens)
        more: dict[str, Any] = {}
        if space and self._adapter:
            more["lora_request"] = LoRARequest(space, SPACES.index(space), self._adapter)
        elif space:
            prompt["cache_salt"] = space
        self._engine.add_request(name, prompt, sampling, priority=priority, **more)
        return name

    def abort(self, name: str, steps: int) -> None:
        """End a request after so many steps, if it runs that long."""
        for _ in range(steps):
            if self._engine.has_unfinished_requests():
                self._engine.step()
        self._engine.abort_request([name])
        self.aborts += 1

    def run(self) -> dict[str, int]:
        """Finish what was added; returns the cached tokens of each request."""
        cached = {}
        while self._engine.has_unfinished_requests():
            for done in self._engine.step():
                if done.finished:
                    cached[done.request_id] = done.num_cached_tokens or 0
                    text = repr(list(done.outputs[0].token_ids))
                    self.outputs.update(f"{done.request_id} {text}".encode())
                    self.different.add(text)
        return cached

    def run_one(self, name: str) -> int:
        """Finish what was added; returns the cached tokens of this request."""
        return self.run()[name]


class Telling:
    """The hook of the engine that reports to a port of this machine."""

    def __init__(self, port: int) -> None:
        self._turns = 0
        attachments: Any = importhook._registry._patches
        reporters = [watch.reporter for kept in attachments for watch in kept.watches]
        [self._reporter] = [r for r in reporters if r._settings.port == port]
        turn = self._reporter._turn

        def counted() -> None:
            turn()
            self._turns += 1

        self._reporter._turn = counted  # type: ignore[method-assign]

    def settle(self) -> None:
        """Wait until all that happened was told: a turn of the reporter that began after it."""
        end = self._turns + 3  # the first may be the one that is under way, uncounted
        while self._turns < end:
            self._reporter.wake()
            time.sleep(0.002)


class Predictions:
    """What reuse is predicted of prompts, from nothing but what the hook told."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def settle(self) -> None:
        """Wait until all that happened was told."""
        raise NotImplementedError

    def predict(self, tokens: list[int], known: dict[str, list[int]]) -> int:
        """The most that any request told of lets this prompt reuse."""
        last = self._receiver.messages[-1]
        sizes = last.get("dropped", 0), last["block_size"]
        return max(
            self._receiver.reusable(name, min(common(tokens, prompt), len(tokens) - 1), *sizes)
            for name, prompt in known.items()
        )


class Index(Telling, Predictions):
    """Predictions of what the hook of this process's engine told."""

    def __init__(self, receiver: Receiver) -> None:
        Telling.__init__(self, receiver.port)
        Predictions.__init__(self, receiver)


def common(first: list[int], second: list[int]) -> int:
    """How many tokens two prompts share from their start."""
    pairs = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


class Prompts:
    """Random prompts over a few shared prefixes."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self._prefixes = [self.fresh(LENGTH) for _ in range(5)]

    def fresh(self, count: int) -> list[int]:
        return [self.random.randrange(*VOCABULARY) for _ in range(count)]

    def draw(self, known: list[list[int]]) -> list[int]:
        """One that begins as others do, or goes on from one sent before."""
        if known and self.random.random() < 0.25:
            return [*self.random.choice(known), *self.fresh(self.random.randint(1, 40))][:LENGTH]
        head = self.random.choice(
            [LENGTH // 4, LENGTH // 2, self.random.randint(LENGTH // 8, LENGTH * 2 // 3)]
        )
        own = self.fresh(self.random.randint(1, LENGTH // 4))
        return [*self.random.choice(self._prefixes)[:head], *own]


def compare(
    engine: Any,
    index: Predictions | None,
    checks: int,
    habits: Sequence[str] = (),
    events: EventIndex | None = None,
) -> dict[str, Any]:
    """Bursts, then the newest prompts again and in part; counts of (predicted, cached).

    habits: of "spaces" (salts or LoRAs), "aborts", "priorities" and "crowds" (more at once, and
        longer answers), what the callers do.
    """
    prompts, sent = Prompts(3), {space: dict[str, list[int]]() for space in SPACES}
    kinds = ("again", "shared", *(("again by events", "shared by events") if events else ()))
    rows: dict[str, list[tuple[int, int]]] = {kind: [] for kind in kinds}
    chance = prompts.random
    crowd, longest = ((4, 6), 90) if "crowds" in habits else ((1, 3), 11)

    def send(tokens: list[int], space: str, outputs: int = 1) -> str:
        priority = chance.randint(0, 3) if "priorities" in habits else 0
        name = engine.add(tokens, outputs, space=space, priority=priority)
        sent[space][name] = tokens
        if events is not None:
            events.sent(name, tokens)
        return name

    def check(kind: str, tokens: list[int], space: str) -> None:
        predicted = by_events = 0
        known = sent[space]
        if index is not None:
            index.settle()
            predicted = index.predict(tokens, known)
        if events is not None:
            most = len(tokens) - 1
            shared = {name: min(common(tokens, p), most) for name, p in known.items()}
            by_events = events.settled(shared, predicted)
        cached = engine.run_one(send(tokens, space))
        rows[kind].append((predicted, cached))
        if events is not None:
            rows[f"{kind} by events"].append((by_events, cached))

    while len(rows["again"]) < checks:
        space = chance.choice(SPACES) if "spaces" in habits else SPACES[0]
        known = sent[space]
        burst = [
            send(prompts.draw(list(known.values())), space, chance.randint(1, longest))
            for _ in range(chance.randint(*crowd))
        ]
        if "aborts" in habits:
            engine.abort(burst[0], chance.randint(0, 6))
        engine.run()
        recent = list(known.values())[-20:]
        check("again", chance.choice(recent), space)
        tokens = chance.choice(recent)
        cut = chance.randint(len(tokens) // 4, len(tokens))
        check("shared", [*tokens[:cut], *prompts.fresh(40)][: LENGTH + 40], space)
    return {kind: summary(found) for kind, found in rows.items()}


def summary(rows: list[tuple[int, int]]) -> dict[str, int]:
    """Counts of hits, and of predictions that were not what was cached."""
    return {
        "checks": len(rows),
        "hits": sum(cached > 0 for _, cached in rows),
        "above": sum(predicted > cached for predicted, cached in rows),
        "below": sum(predicted < cached for predicted, cached in rows),
        "worst": max((abs(cached - predicted) for predicted, cached in rows), default=0),
    }


def sharers(engine: Engine, count: int = 10) -> list[float]:
    """The mean cached tokens of the first to fourth request with a prefix of half the length."""
    prompts, rows = Prompts(4), []
    for _ in range(count):
        prefix = prompts.fresh(LENGTH // 2)
        rows.append([engine.run_one(engine.add([*prefix, *prompts.fresh(64)], 2)) for _ in "1234"])
    return [sum(column) / count for column in zip(*rows, strict=True)]


def run(job: dict[str, Any], receiver: Receiver) -> dict[str, Any]:
    """One job on an engine of its own."""
    started = time.monotonic()
    events = EventIndex() if job.get("events") else None
    options = {**job.get("options", {}), **(events.options if events else {})}
    engine = Engine(job["model"], options)
    ready = time.monotonic()
    coordinator = engine.coordinator
    seen: dict[str, Any] = {
        "coordinator": type(coordinator).__name__,
        "layers": [type(m).__name__ for m in coordinator.single_type_managers],
        "retention": getattr(coordinator, "retention_interval", None),
    }
    if job.get("checks"):
        index = Index(receiver) if job.get("hooked", True) else None
        seen.update(compare(engine, index, job["checks"], job.get("habits", ()), events))
        seen.update(preemptions=engine.preemptions, aborts=engine.aborts)
    if events is not None:
        seen["events"] = events.state()
        events.close()
    if job.get("sharers"):
        seen["sharers"] = sharers(engine)
    seen["outputs"] = engine.outputs.hexdigest()
    seen["distinct"] = len(engine.different)
    seen["told"] = receiver.messages[-1] if receiver.messages else None
    seen["seconds"] = [round(ready - started, 1), round(time.monotonic() - ready, 1)]
    return seen


def tried(job: dict[str, Any], receiver: Receiver) -> dict[str, Any]:
    """One job; where it "may fail", what stopped it."""
    try:
        return run(job, receiver)
    except Exception as error:
        if not job.get("may_fail"):
            raise
        return {"failed": f"{type(error).__name__}: {error}".partition("\n")[0]}


def prepare(hooked: bool) -> None:
    """Set this process up for vLLM's engines, with our hook or without."""
    os.environ.update(VLLM_ENABLE_V1_MULTIPROCESSING="0", HF_HUB_OFFLINE="1")
    os.environ.update(VLLM_NO_USAGE_STATS="1", VLLM_LOGGING_LEVEL="WARNING")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    if hooked:
        os.environ["CONTEXTPILOT_INDEX_URL"] = "http://127.0.0.1:1"
        __import__("contextpilot_hooks.start", fromlist=["start"]).start()
    import vllm.model_executor.models.registry as registry

    registry._run_in_subprocess = lambda function: function()  # each imports all of vLLM anew


def tell(seen: dict[str, Any], has_model: bool = True) -> None:
    """Print what one job came to, and let the next engine have its place."""
    sys.stdout.write(f"\n{json.dumps(seen)}\n")
    sys.stdout.flush()
    if has_model:
        clean_up()


def main() -> None:
    jobs = json.loads(sys.argv[1])
    prepare(jobs[0].get("hooked", True))
    for job in jobs:
        with Receiver() as receiver:
            if job.get("hooked", True):
                os.environ["CONTEXTPILOT_INDEX_URL"] = receiver.url
            tell({**job, **tried(job, receiver)})
    os._exit(0)  # vLLM's own threads may hold up the exit


def clean_up() -> None:
    """Let the next engine of this process have the first one's place."""
    from vllm.distributed import cleanup_dist_env_and_memory

    gc.collect()
    cleanup_dist_env_and_memory()


if __name__ == "__main__":
    main()
