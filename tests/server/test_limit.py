"""How many requests an engine takes at once, learnt from what real engines write of themselves."""

from __future__ import annotations

import pytest

from contextpilot.server.pool.concurrency_limit import ConcurrencyLimit

VLLM = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{{engine="0",model_name="tiny"}} {0}.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{{engine="0",model_name="tiny"}} {1}.0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{{engine="0",model_name="tiny",reason="capacity"}} {1}.0
vllm:num_requests_waiting_by_reason{{engine="0",model_name="tiny",reason="deferred"}} 0.0
vllm:kv_cache_usage_perc{{engine="0",model_name="tiny"}} 1.5e-05
"""
SGLANG = """# HELP sglang:num_running_reqs The number of running requests.
# TYPE sglang:num_running_reqs gauge
sglang:num_running_reqs{{engine_type="unified",model_name="tiny",tp_rank="0"}} {0}.0
# HELP sglang:num_queue_reqs The number of requests in the waiting queue.
# TYPE sglang:num_queue_reqs gauge
sglang:num_queue_reqs{{engine_type="unified",model_name="tiny",tp_rank="0"}} {1}.0
sglang:token_usage{{engine_type="unified",model_name="tiny",tp_rank="0"}} 0.02
"""
LLAMACPP = """# HELP llamacpp:requests_processing Number of requests processing.
# TYPE llamacpp:requests_processing gauge
llamacpp:requests_processing {0}
# HELP llamacpp:requests_deferred Number of requests deferred.
# TYPE llamacpp:requests_deferred gauge
llamacpp:requests_deferred {1}
"""
RAMP = [(1, 0), (8, 43), (28, 92), (41, 79), (53, 67), (64, 56), (64, 56), (64, 56), (58, 55)]
DRAIN = [(54, 45), (53, 33), (51, 22), (50, 12), (56, 0), (56, 0), (34, 0), (0, 0)]
"""Requests that run and that wait in a vLLM that takes 64 at once, four scrapes a second."""


def observe(limit: ConcurrencyLimit, *samples: tuple[int, int], text: str = VLLM) -> None:
    for running, queued in samples:
        limit.observe(text.format(running, queued), running + queued)


@pytest.mark.parametrize("text", [VLLM, SGLANG, LLAMACPP])
def test_a_queue_in_several_samples_tells_the_most_that_runs(text: str) -> None:
    limit = ConcurrencyLimit()
    limit.observe("nothing_of_use 3\n", 9)
    observe(limit, (5, 0), (20, 3), (18, 9), text=text)
    assert not limit.is_known
    observe(limit, (19, 9), text=text)
    assert limit.value == 20


def test_a_burst_as_a_real_engine_tells_of_it() -> None:
    limit = ConcurrencyLimit()
    observe(limit, *RAMP)
    assert limit.value == 64
    observe(limit, *DRAIN)
    assert 56 <= limit.value <= 64


@pytest.mark.parametrize("short", [(2, 198), (1, 1)])
def test_single_samples_with_a_queue_change_nothing(short: tuple[int, int]) -> None:
    limit = ConcurrencyLimit()
    observe(limit, *[(200, 30)] * 6)
    assert limit.value == 200
    for _ in range(20):
        observe(limit, short, short, (150, 0))
    assert limit.value == 200
    observe(limit, *[short] * 5, (200, 10))
    assert limit.value == 200


def test_a_bound_that_was_too_low_is_left_within_ten_samples() -> None:
    limit = ConcurrencyLimit()
    observe(limit, *[(2, 198)] * 6)
    assert limit.value == 2
    for _ in range(8):
        observe(limit, (int(limit.value), 0))  # all that are let through run, and nothing waits
    assert limit.value >= 200


def test_a_bound_that_fits_is_tried_gently() -> None:
    limit = ConcurrencyLimit()
    observe(limit, *[(20, 3)] * 3)
    observe(limit, (20, 0))
    assert limit.value == 22
    observe(limit, (20, 2), (20, 2), (20, 2), (20, 0))
    assert limit.value == 22
    observe(limit, (3, 0))
    assert limit.value == 22


def test_parallel_engines_behind_one_address_are_added_up() -> None:
    limit = ConcurrencyLimit()
    both = VLLM.format(20, 4) + VLLM.replace('engine="0"', 'engine="1"').format(10, 0)
    for _ in range(3):
        limit.observe(both, 34)
    assert limit.value == 30


def test_what_is_given_stays() -> None:
    fixed = ConcurrencyLimit(4)
    observe(fixed, *[(20, 3)] * 6)
    fixed.learn_slots(9)
    assert fixed.value == 4
    slots = ConcurrencyLimit()
    slots.learn_slots(2)
    observe(slots, *[(20, 3)] * 6, text=LLAMACPP)
    assert slots.value == 2
