"""The wire form of jobs and plans, and answers kept for jobs that arrive twice."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import asdict
from typing import Any

from contextpilot.block import MAX_ID_CHARS, Block, BlockKey
from contextpilot.explain import Explanation, first_miss
from contextpilot.plan.bounds import Bounds
from contextpilot.plan.online import Head, Plan
from contextpilot.planning import Job, Planned

Json = dict[str, Any]

MAX_JOB_ID_CHARS = 64
_MAX_NAMESPACE_CHARS = 512
_MAX_HEX_CHARS = 128
_MAX_KEY_PARTS = 8
_MAX_TOKENS = 1 << 31
_MAX_REQUEST_ID_CHARS = 128
_MAX_REASON_CHARS = 1000
_MAX_ANSWERED = 1024
_MAX_ANSWERED_RANKS = 1_000_000


def encode_job(job: Job, job_id: str | None = None) -> Json:
    """Return a job as JSON content: keys and weights, no block's text.

    Args:
        job_id: new for each job; a server that gets it again answers as before and learns nothing.
    """
    return {
        "id": job_id,
        "namespace": job.namespace,
        "contexts": [
            [[_encode_key(block.key), block.weight] for block in context]
            for context in job.contexts
        ],
        "bounds": asdict(job.bounds.decided),  # older servers know no "auto"
        "head": [[_encode_key(key) for key in job.head.keys], job.head.tokens],
        "tails": list(job.tails),
    }


def decode_job(content: Any) -> Job:
    """Return the job in decoded JSON; raise ValueError or TypeError when it is none."""
    if not isinstance(content, Mapping):
        raise ValueError("body must be a JSON object")
    try:
        contexts = [
            [Block(_decode_key(key), "", _tokens(weight), None) for key, weight in context]
            for context in content["contexts"]
        ]
        keys, tokens = content["head"]
        head = Head(tuple(_decode_key(key) for key in keys), _tokens(tokens))
        tails = [_tokens(tail) for tail in content["tails"]]
        namespace = _namespace(content["namespace"])
        job = Job(namespace, contexts, Bounds(**content["bounds"]), head, tails)
    except KeyError as error:
        raise ValueError(f"field {error} is missing") from None
    if len(tails) != len(contexts):
        raise ValueError("tails must give one number for each of contexts")
    return job


def job_id_of(content: Any) -> str | None:
    """Return the id of the job in decoded JSON; None when it has none that can be used."""
    job_id = content.get("id") if isinstance(content, Mapping) else None
    fits = isinstance(job_id, str) and 0 < len(job_id) <= MAX_JOB_ID_CHARS
    return job_id if fits else None


def encode_plans(planned: Iterable[Planned]) -> Json:
    """Return planned requests as JSON content."""
    return {
        "plans": [
            [position, plan.order, plan.num_live, explanation.as_dict()]
            for position, plan, explanation in planned
        ]
    }


def decode_plans(content: Any, job: Job) -> list[Planned]:
    """Return the plans of a job in decoded JSON.

    Only what this side cannot work out itself is taken from the answer.

    Raises:
        ValueError: the answer is no plan for each context of the job.
    """
    plans = content.get("plans") if isinstance(content, Mapping) else None
    if not isinstance(plans, list) or len(plans) != len(job.contexts):
        raise ValueError("it does not give one plan for each context")
    planned = [_decode_plan(plan, job) for plan in plans]
    if len({item.position for item in planned}) != len(planned):
        raise ValueError("it plans a context twice")
    if len({item.request_id for item in planned}) != len(planned):
        raise ValueError("it gives two requests one id")
    return planned


def _decode_plan(plan: Any, job: Job) -> Planned:
    if not isinstance(plan, list) or len(plan) != 4:
        raise ValueError("a plan must be position, order, number of live blocks and explanation")
    position, order, num_live, told = plan
    if not _is_count(position) or position >= len(job.contexts):
        raise ValueError("a plan's position is not one of the contexts")
    context = job.contexts[position]
    if not isinstance(order, list) or not all(map(_is_count, order)):
        raise ValueError("a plan's order must be a list of ranks")
    if sorted(order) != list(range(len(context))):
        raise ValueError("a plan's order is not a permutation of the context's ranks")
    if not _keeps(job.bounds, order):
        raise ValueError("a plan moves blocks further than the bounds allow")
    if not _is_count(num_live) or num_live > len(context):
        raise ValueError("a plan has more live blocks than blocks")
    done = Plan(tuple(order), num_live)
    return Planned(position, done, _decode_explanation(told, context, done))


def _decode_explanation(told: Any, context: Any, plan: Plan) -> Explanation:
    request_id = told.get("request_id") if isinstance(told, Mapping) else None
    if not isinstance(request_id, str) or not 0 < len(request_id) <= _MAX_REQUEST_ID_CHARS:
        raise ValueError("a plan's explanation has no request_id")
    if not (request_id.isascii() and request_id.isprintable()):  # it goes into a header
        raise ValueError("a plan's request_id is not printable ASCII")
    reason, reachable = told.get("reason", "unknown"), told.get("reachable_tokens", 0)
    if not isinstance(reason, str) or not _is_count(reachable):
        raise ValueError("a plan's explanation is not valid")
    weights = [context[rank].weight for rank in plan.order]
    total = sum(weights)
    return Explanation(
        request_id=request_id,
        matched_blocks=plan.num_live,
        matched_tokens=sum(weights[: plan.num_live]),
        total_tokens=total,
        first_miss=first_miss(context, plan),
        reason=reason[:_MAX_REASON_CHARS],
        reachable_tokens=min(reachable, total),
    )


def _keeps(bounds: Bounds, order: list[int]) -> bool:
    """Return whether an order moves no block further than the caller allowed."""
    if not bounds.limited:
        return True
    shift = 0 if not bounds.enabled else bounds.max_shift
    pinned = all(rank == at for at, rank in enumerate(order[: bounds.pin_first]))
    return pinned and (
        shift is None or all(abs(rank - at) <= shift for at, rank in enumerate(order))
    )


def _tokens(value: Any) -> int:
    if not _is_count(value) or value > _MAX_TOKENS:
        raise ValueError(f"weights, tokens and tails must be integers of 0 to {_MAX_TOKENS}")
    return int(value)


def _namespace(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_NAMESPACE_CHARS:
        raise ValueError(f"namespace must be text of at most {_MAX_NAMESPACE_CHARS} characters")
    return value


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 1 << 53


class AnsweredJobs:
    """The answers to recent jobs by their ids, so that none is learnt twice. Thread-safe."""

    def __init__(self, max_jobs: int = _MAX_ANSWERED, max_ranks: int = _MAX_ANSWERED_RANKS) -> None:
        self._max_jobs = max_jobs
        self._max_ranks = max_ranks
        self._num_ranks = 0
        self._known: OrderedDict[str, tuple[Future[Json], int]] = OrderedDict()
        self._asked_again: set[str] = set()
        self._lock = threading.Lock()

    def claim(self, job_id: str, job: Job) -> tuple[Future[Json], bool]:
        """Return the answer to come of a job, and whether the caller is to give it."""
        with self._lock:
            known = self._known.get(job_id)
            if known is not None:
                self._asked_again.add(job_id)
                return known[0], False
            ranks = sum(map(len, job.contexts))
            answer: Future[Json] = Future()
            answer.set_running_or_notify_cancel()  # whoever waits for it cannot cancel it
            self._known[job_id] = answer, ranks
            self._num_ranks += ranks
            while len(self._known) > self._max_jobs or self._num_ranks > self._max_ranks:
                self._drop(next(iter(self._known)))
            return answer, True

    def give(self, job_id: str, answer: Future[Json], plan: Callable[[], Json]) -> Json:
        """Work out the answer to a claimed job; one that fails may be asked again."""
        try:
            content = plan()
        except BaseException as error:
            self.fail(job_id, answer, error)
            raise
        answer.set_result(content)
        return content

    def fail(self, job_id: str, answer: Future[Json], error: BaseException) -> None:
        """Let go a claimed job that cannot be answered."""
        with self._lock:
            if job_id in self._known and self._known[job_id][0] is answer:
                self._drop(job_id)
        answer.set_exception(error)

    def abandon(self, job_id: str) -> bool:
        """Let go a job whose client went before its answer; False where another asks for it."""
        with self._lock:
            if job_id not in self._known or job_id in self._asked_again:
                return False
            self._drop(job_id)
            return True

    def _drop(self, job_id: str) -> None:
        self._asked_again.discard(job_id)
        self._num_ranks -= self._known.pop(job_id)[1]


# -- keys ------------------------------------------------------------------------------------------


def _encode_key(key: BlockKey) -> Any:
    if isinstance(key, bytes):
        return key.hex()
    if isinstance(key, tuple):
        return [_encode_key(part) for part in key]
    return {"id": key}


def _decode_key(key: Any) -> BlockKey:
    if isinstance(key, str) and len(key) <= _MAX_HEX_CHARS:
        return bytes.fromhex(key)
    if isinstance(key, list) and len(key) <= _MAX_KEY_PARTS:
        return tuple(_decode_key(part) for part in key)
    identity: Any = key.get("id") if isinstance(key, dict) else None
    if isinstance(identity, int) or (isinstance(identity, str) and len(identity) <= MAX_ID_CHARS):
        return identity
    raise ValueError(f"{str(key)[:64]!r} is not a block key")
