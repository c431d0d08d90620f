"""What of the SGLang hook needs no SGLang: ranks, shadow modules, refusals."""

import logging
import sys
from types import ModuleType, SimpleNamespace

import pytest
from contextpilot_hooks import sglang
from contextpilot_hooks.patching import NotSupported

RANKS = {"attn_tp_rank": 0, "pp_rank": 0, "dp_rank": None}


@pytest.fixture
def parallel(monkeypatch):
    """Ranks in the runtime context, as from 0.5.21."""

    def publish(**ranks):
        context = ModuleType("sglang.srt.runtime_context")
        known = SimpleNamespace(**{**RANKS, "attn_cp_rank": 0, "attn_dp_size": 1, **ranks})
        context.get_parallel = lambda: known
        monkeypatch.setitem(sys.modules, context.__name__, context)

    return publish


@pytest.mark.parametrize(
    ("ranks", "expected"),
    [
        ({}, (True, None)),
        ({"attn_tp_rank": 1}, (False, None)),
        ({"pp_rank": 1}, (False, None)),
        ({"attn_cp_rank": 1}, (False, None)),
        ({"dp_rank": 0}, (True, 0)),
        ({"dp_rank": 3}, (True, 3)),
    ],
)
def test_one_rank_of_each_replica_reports(parallel, ranks, expected):
    on_scheduler = SimpleNamespace(**{**RANKS, **ranks})
    on_state = SimpleNamespace(ps=SimpleNamespace(**{**RANKS, **ranks}))
    parallel(**ranks)
    for scheduler in (on_scheduler, on_state, SimpleNamespace()):
        assert sglang.placement(scheduler) == expected


def test_attention_replicas_of_the_runtime_context_are_told_apart(parallel):
    parallel(attn_dp_size=2, attn_dp_rank=1, dp_rank=None)
    assert sglang.placement(SimpleNamespace()) == (True, 1)
    parallel(attn_dp_size=2, attn_dp_rank=1, dp_rank=3)
    assert sglang.placement(SimpleNamespace()) == (True, 7)


def test_ranks_that_are_not_found_are_not_guessed():
    with pytest.raises(NotSupported, match="ranks"):
        sglang.placement(SimpleNamespace())


def scheduler_module(**members):
    module = ModuleType("sglang.srt.managers.scheduler")
    vars(module).update(members)
    return module


def old_queue(self, request):
    """A queue whose parameter has another name."""


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({}, "no attribute 'Scheduler'"),
        ({"Scheduler": type("Scheduler", (), {})}, "_add_request_to_queue is missing"),
        (
            {"Scheduler": type("Scheduler", (), {"_add_request_to_queue": old_queue})},
            "lacks the parameter req",
        ),
    ],
)
def test_a_scheduler_that_looks_different_is_left_alone(caplog, members, reason):
    before = {name: dict(vars(value)) for name, value in members.items()}
    with caplog.at_level(logging.WARNING, "contextpilot.hooks"):
        sglang.attach(scheduler_module(**members))
    (record,) = caplog.records
    assert reason in record.getMessage()
    assert {name: dict(vars(value)) for name, value in members.items()} == before


class Scheduler:
    """A scheduler of the right shape with a cache that is none of SGLang's."""

    def __init__(self, cache):
        vars(self).update(RANKS)
        self.tree_cache = cache
        self.queue = []

    def _add_request_to_queue(self, req, is_retracted=False):
        self.queue.append(req)


def test_a_cache_that_is_not_known_is_refused_and_the_scheduler_works(caplog):
    with caplog.at_level(logging.WARNING, "contextpilot.hooks"):
        sglang.attach(scheduler_module(Scheduler=Scheduler))
        scheduler = Scheduler(object())
    (record,) = caplog.records
    assert "its prefix cache is a object" in record.getMessage()
    scheduler._add_request_to_queue("anything")
    assert scheduler.queue == ["anything"]
    assert set(vars(scheduler)) == {*RANKS, "tree_cache", "queue"}
