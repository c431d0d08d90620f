"""The figures of a run: exact ones first, then times with their spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contextpilot.bench.schedule import Pass
from contextpilot.bench.statistics import Interval, Spread, ratio_of_sums

BASELINE = "plain"


@dataclass(frozen=True)
class ArmResult:
    """What one arm came to; tokens and times are of one repetition, on average.

    Attributes:
        name: of the arm.
        requests: answered in every arm and repetition; the others count nowhere.
        prompt_tokens, cached_tokens: as the engine reports them; None where it was not asked to.
        expected_tokens: cached, by the simulation; None where it cannot tell.
        hit_ratios: of each repetition.
        walls_s: wall time of each repetition.
        ttft: times to first token of all requests of all repetitions.
        plan_s: planning within the wall time (for arms that plan in this process).
        speedup: wall time of the baseline per wall time of this arm.
        ttft_ratio: the baseline's times to first token per this arm's.
    """

    name: str
    requests: int
    prompt_tokens: float
    cached_tokens: float | None
    expected_tokens: float | None
    hit_ratios: tuple[float, ...]
    walls_s: tuple[float, ...]
    ttft: Spread
    plan_s: float
    speedup: Interval | None
    ttft_ratio: Interval | None

    @property
    def hit_ratio(self) -> float | None:
        """Cached tokens per prompt token."""
        if self.cached_tokens is None:
            return None
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    @property
    def expected_ratio(self) -> float | None:
        """The hit ratio that the simulation expects."""
        if self.expected_tokens is None or not self.prompt_tokens:
            return None
        return self.expected_tokens / self.prompt_tokens

    @property
    def computed_tokens(self) -> float | None:
        """Prompt tokens that the engine had to compute."""
        return None if self.cached_tokens is None else self.prompt_tokens - self.cached_tokens

    @property
    def wall_s(self) -> float:
        """Wall time, on average over the repetitions."""
        return sum(self.walls_s) / len(self.walls_s)

    @property
    def tokens_per_s(self) -> float:
        """Prompt tokens per second of wall time: prefill throughput."""
        return self.prompt_tokens / self.wall_s

    def throughput_ratio(self, baseline: ArmResult) -> Interval | None:
        """Prefill throughput over the baseline's."""
        if self.speedup is None:
            return None
        more = self.prompt_tokens / baseline.prompt_tokens
        return Interval(*(number * more for number in self.speedup))

    def limit(self, baseline: ArmResult) -> float | None:
        """What throughput over the baseline could be if only computed tokens took time.

        1 / (1 - hit ratio), less what the baseline hits itself.
        """
        if self.hit_ratio is None or baseline.hit_ratio is None or self.hit_ratio == 1:
            return None
        return (1 - baseline.hit_ratio) / (1 - self.hit_ratio)

    def as_dict(self, baseline: ArmResult | None) -> dict[str, Any]:
        """Return all figures as a dictionary, ready for JSON; ratios from 0 to 1."""
        own = {
            "mode": self.name,
            "requests": self.requests,
            "prompt_tokens": self.prompt_tokens,
            "cached_tokens": self.cached_tokens,
            "computed_tokens": self.computed_tokens,
            "hit_ratio": self.hit_ratio,
            "hit_ratio_by_repetition": list(self.hit_ratios),
            "expected_hit_ratio": self.expected_ratio,
            "tokens_per_s": self.tokens_per_s,
            "ttft_s": self.ttft._asdict(),
            "wall_s": self.wall_s,
            "wall_s_by_repetition": list(self.walls_s),
            "plan_s": self.plan_s,
        }
        if baseline is None:
            return own
        return own | {
            "speedup": _dict(self.speedup),
            "throughput_ratio": _dict(self.throughput_ratio(baseline)),
            "ttft_ratio": _dict(self.ttft_ratio),
            "throughput_limit": self.limit(baseline),
        }


def _dict(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else interval.as_dict()


def failures(passes: Sequence[Pass]) -> dict[int, str]:
    """Return the requests that any arm got no answer to, and the first error of each."""
    failed: dict[int, str] = {}
    for each in passes:
        for sent in each.sent:
            if sent.error:
                failed.setdefault(sent.position, f"{each.arm.name}: {sent.error}")
    return failed


def summarize(
    passes: Sequence[Pass],
    expected: Mapping[str, Mapping[int, int]],
    seed: int,
    reports_cache: bool,
) -> list[ArmResult]:
    """Return the figures of every arm, in the order of their first appearance by repetition.

    Args:
        passes: all of them.
        expected: for each arm the cached tokens to expect, by position.
        seed: of the resampling.
        reports_cache: the engine was seen to report cached tokens; absent then means 0.
    """
    by_arm: dict[str, list[Pass]] = {}
    for each in passes:
        by_arm.setdefault(each.arm.name, []).append(each)
    left_out = set(failures(passes))
    base = by_arm.get(BASELINE)
    return [
        _result(own, base, expected.get(name, {}), left_out, seed, reports_cache)
        for name, own in by_arm.items()
    ]


def _result(
    own: Sequence[Pass],
    base: Sequence[Pass] | None,
    expected: Mapping[int, int],
    left_out: set[int],
    seed: int,
    reports_cache: bool,
) -> ArmResult:
    kept = [[sent for sent in each.sent if sent.position not in left_out] for each in own]
    prompts = [sum(sent.prompt_tokens or 0 for sent in run) for run in kept]
    cached = [sum(sent.cached_tokens or 0 for sent in run) for run in kept]
    runs = len(own)
    told = {p: tokens for p, tokens in expected.items() if p not in left_out}
    whole = len(told) == len(kept[0])
    return ArmResult(
        name=own[0].arm.name,
        requests=len(kept[0]),
        prompt_tokens=sum(prompts) / runs,
        cached_tokens=sum(cached) / runs if reports_cache else None,
        expected_tokens=float(sum(told.values())) if whole and reports_cache else None,
        hit_ratios=tuple(c / max(1, p) for c, p in zip(cached, prompts, strict=True))
        if reports_cache
        else (),
        walls_s=tuple(each.seconds for each in own),
        ttft=Spread.of([sent.ttft_s for run in kept for sent in run]),
        plan_s=sum(sent.plan_s for run in kept for sent in run) / runs,
        speedup=_speedup(own, base, seed) if base else None,
        ttft_ratio=_ttft_ratio(own, base, left_out, seed) if base else None,
    )


def _speedup(own: Sequence[Pass], base: Sequence[Pass], seed: int) -> Interval:
    """Pair slices that were run at the same time, or the same repetition's of the same number."""
    pairs = [
        (theirs.seconds, mine.seconds)
        for each, other in zip(_sorted(own), _sorted(base), strict=True)
        for mine, theirs in zip(each.slices, other.slices, strict=True)
    ]
    return ratio_of_sums([above for above, _ in pairs], [below for _, below in pairs], seed)


def _ttft_ratio(
    own: Sequence[Pass], base: Sequence[Pass], left_out: set[int], seed: int
) -> Interval:
    """Pair requests: the baseline's time to first token per this arm's."""
    mine, theirs = _ttft_by_position(own), _ttft_by_position(base)
    positions = sorted(set(mine) - left_out)
    above, below = [theirs[p] for p in positions], [mine[p] for p in positions]
    return ratio_of_sums(above, below, seed)


def _ttft_by_position(passes: Sequence[Pass]) -> dict[int, float]:
    sums: dict[int, float] = {}
    for each in passes:
        for sent in each.sent:
            sums[sent.position] = sums.get(sent.position, 0.0) + sent.ttft_s
    return sums


def _sorted(passes: Sequence[Pass]) -> list[Pass]:
    return sorted(passes, key=lambda each: each.repetition)
