"""One run of `contextpilot bench`: engine, arms, measurement, figures."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contextpilot.bench.answers import AnswerResult, Gold, Judge, score_answers
from contextpilot.bench.arms import ANSWER_ARMS, DEFAULT_ARMS, Arm, Setting, make_arm
from contextpilot.bench.drive import Sender
from contextpilot.bench.engine import KEY_VARIABLE as ENGINE_KEY
from contextpilot.bench.engine import EngineUnderTest, Facts, base_url, key_header
from contextpilot.bench.events import prove_events
from contextpilot.bench.predict import Weights, estimated, fitted, predict, texts_to_weigh
from contextpilot.bench.prompts import Requests
from contextpilot.bench.readiness import Say, wait_until_ready
from contextpilot.bench.report import Report
from contextpilot.bench.results import failures, summarize
from contextpilot.bench.schedule import Pass, Progress, Run, Schedule
from contextpilot.bench.server import serving
from contextpilot.errors import CommandError
from contextpilot.http.pooled import Upstream

JUDGE_KEY = "CONTEXTPILOT_JUDGE_KEY"
_CONNECT_TIMEOUT_S = 10.0
_READ_TIMEOUT_S = 900.0
_ANSWER_TOKENS = 64
_VERDICT_TOKENS = 16


@dataclass(frozen=True)
class Config:
    """What a run is asked for.

    Attributes:
        engine: its base URL.
        modes: names of arms; empty for the default ones.
        options: of planning.
        model: default: the first that the engine lists.
        max_tokens: of each answer; default 1, and 64 where answers are scored.
        cache_tokens: that the engine's cache holds; default: what it says.
        host_cache_tokens: that llama-server keeps in the host's memory besides.
        times_only: go on without cache figures where the engine reports none.
        listen: where the server of `proxy` and `synced` listens; default: a free port.
        gold: gold answers of every request; None scores no answers.
        wait_s: how long to wait for an engine that is still loading.
        judge, judge_model: URL of a judge and its model.
    """

    engine: str
    modes: Sequence[str] = ()
    schedule: Schedule = field(default_factory=Schedule)
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    model: str | None = None
    max_tokens: int | None = None
    cache_tokens: int | None = None
    host_cache_tokens: int = 0
    times_only: bool = False
    listen: str | None = None
    gold: Gold | None = None
    judge: str | None = None
    judge_model: str | None = None
    wait_s: float = 0.0

    @property
    def arms(self) -> list[str]:
        """Names of the arms, each once."""
        scored = self.gold is not None or self.judge is not None
        return list(dict.fromkeys(self.modes or (ANSWER_ARMS if scored else DEFAULT_ARMS)))

    @property
    def answer_tokens(self) -> int:
        """Tokens that each answer may have."""
        scored = self.gold is not None or self.judge is not None
        return self.max_tokens or (_ANSWER_TOKENS if scored else 1)


async def benchmark(
    name: str, requests: Requests, config: Config, progress: Progress, say: Say = lambda _: None
) -> Report:
    """Measure a workload called `name` on an engine.

    Args:
        say: takes a sentence on what is waited for.

    Raises:
        CommandError: a mode is unknown, the engine does not answer, does not report its cache, or
            tells nothing of it although a mode needs its events.
    """
    upstream = Upstream(_CONNECT_TIMEOUT_S, _READ_TIMEOUT_S)
    try:
        engine = EngineUnderTest(config.engine, upstream)
        await wait_until_ready(upstream, engine.url, config.wait_s, say)
        facts = await engine.facts(config.model, config.cache_tokens, config.host_cache_tokens)
        sender = Sender(upstream, facts.model, config.answer_tokens, key_header(ENGINE_KEY))
        if not config.times_only:
            await engine.prove_cache_report(facts, sender, secrets.token_hex(6))
        with _arms(config, facts) as (arms, urls, server):
            for arm in arms:
                if arm.needs_events:
                    salt = secrets.token_hex(6)
                    await prove_events(upstream, sender, facts, arm, server, salt)
            run = Run(engine, facts, sender, requests, config.schedule, urls)
            passes, isolation = await run.measure(arms, progress)
        failed = failures(passes)
        if len(failed) == len(requests):
            raise CommandError(f"every request failed: {next(iter(failed.values()))}")
        expected = {} if config.times_only else await _expected(engine, facts, passes)
        return Report(
            name,
            facts,
            config.schedule,
            isolation,
            config.seed,
            summarize(_asked(passes, arms), expected, config.seed, not config.times_only),
            failed,
            passes,
            expected,
            reports_cache=not config.times_only,
            answers=await _answers(upstream, config, requests, _asked(passes, arms)),
            judge=config.judge_model or config.judge or "",
        )
    finally:
        upstream.close()


@contextlib.contextmanager
def _arms(config: Config, facts: Facts) -> Iterator[tuple[list[Arm], dict[str, str], str]]:
    """Yield the arms, where their requests go, and the server before the engine if one must be."""
    with contextlib.ExitStack() as stack:
        server = ""
        if {"proxy", "synced"} & {*config.arms}:
            server = stack.enter_context(serving(facts.url, facts.kind.name, config.listen))
        setting = Setting(config.seed, config.options, server, facts.kind)
        try:
            arms = [make_arm(name, setting) for name in config.arms]
        except ValueError as error:
            raise CommandError(f"--modes: {error}") from None
        urls = {arm.name: server if arm.through_server else facts.url for arm in arms}
        yield arms, urls, server


def _asked(passes: Sequence[Pass], arms: Sequence[Arm]) -> list[Pass]:
    """Return the passes in the order in which the arms were asked for."""
    place = {arm.name: i for i, arm in enumerate(arms)}
    return sorted(passes, key=lambda each: (place[each.arm.name], each.repetition))


async def _expected(
    engine: EngineUnderTest, facts: Facts, passes: Sequence[Pass]
) -> dict[str, dict[int, int]]:
    """Simulate the first repetition of every arm."""
    first = [each for each in passes if each.repetition == 0]
    prompts = [prompt for each in first for prompt in each.prompts]
    texts = texts_to_weigh(prompts)
    whole = [str(message["content"]) for message in prompts[0].messages]
    exact = await engine.count_tokens(facts, [*texts.values(), *whole])
    begun = _prompt_tokens(first[0]).get(prompts[0].position)
    expected = {}
    for each in first:
        counts = _prompt_tokens(each)
        weights: Weights = estimated(texts, each.prompts, counts)
        if exact is not None and begun is not None:
            weighed = dict(zip(texts, exact[: len(texts)], strict=True))
            weights = fitted(weighed, prompts, exact[len(texts) :], begun)
        expected[each.arm.name] = predict(each.prompts, counts, weights, facts.cache)
    return expected


def _prompt_tokens(each: Pass) -> dict[int, int]:
    return {
        sent.position: sent.prompt_tokens for sent in each.sent if sent.prompt_tokens is not None
    }


async def _answers(
    upstream: Upstream, config: Config, requests: Requests, passes: Sequence[Pass]
) -> list[AnswerResult]:
    if config.gold is None and config.judge is None:
        return []
    gold = config.gold if config.gold is not None else [()] * len(requests)
    judge = None
    if config.judge is not None:
        url = base_url(config.judge)
        model = config.judge_model
        if model is None:
            model = (await EngineUnderTest(url, upstream).facts()).model
        judge = Judge(url, Sender(upstream, model, _VERDICT_TOKENS, key_header(JUDGE_KEY)))
    return await score_answers(passes, requests, gold, judge, config.seed)
