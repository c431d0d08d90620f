"""Listening to KV events over real sockets: order, gaps, restarts, faults; told to a receiver."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator

import pytest
from kv_publisher import CLEARED, Publisher, msgspec, removed, stored, until

from contextpilot.engines.base import ToldLayers
from contextpilot.sync.events import Event, SyncMessage
from contextpilot.sync.sources.kv_events import subscriber as subscriber_module
from contextpilot.sync.sources.kv_events.address import KvAddress, parse_addresses
from contextpilot.sync.sources.kv_events.feed import KvFeed, Prompt, Told
from contextpilot.sync.sources.kv_events.wire import MAX_BYTES

ABCD = [1, 1, 1, 1, 2, 2, 2, 2]


class Index:
    """What a receiver would believe: the last word on each request."""

    def __init__(self) -> None:
        self.held: dict[str, int] = {}
        self.messages: list[SyncMessage] = []
        self.answer = "ok"
        self.has_hooks = False
        self.hooks_told: dict[str, int] = {}
        self.num_left = 0
        self.fails = False

    def receive(self, message: SyncMessage) -> str:
        if self.fails:
            self.fails = False
            raise RuntimeError("a fault of ours")
        self.messages.append(message)
        if message.snapshot:
            self.held.clear()
            self.answer = "ok"
        elif self.answer != "ok":
            return self.answer
        for event in message.events:
            if event.kind == "unfollowed":
                self.held.pop(event.request, None)
            else:
                self.held[event.request] = event.tokens
        return "ok"

    def leave(self) -> None:
        self.num_left += 1
        self.held.clear()

    def told(self) -> Told:
        return Told(
            self.receive, self.leave, lambda: self.has_hooks, lambda r: self.hooks_told.get(r)
        )

    def holds(self, **tokens: int) -> bool:
        return {r: t for r, t in self.held.items() if t} == tokens


@contextlib.contextmanager
def feed_on(index: Index, address: str) -> Iterator[KvFeed]:
    feed = KvFeed("kv", parse_addresses([address])[0], index.told(), lambda: "vllm")
    feed.start()
    try:
        yield feed
    finally:
        feed.close()


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    made = Publisher()
    yield made
    made.close()


def connected(feed: KvFeed, *publishers: Publisher) -> None:
    assert all(publisher.is_subscribed() for publisher in publishers)
    until(lambda: feed.state()["state"] != "off")


def begin(feed: KvFeed, index: Index, publisher: Publisher) -> None:
    """Let an engine hold one request."""
    connected(feed, publisher)
    publisher.publish(stored([1], [1] * 4))
    feed.follow(Prompt("a", [1] * 4))
    until(lambda: index.holds(a=4))


# -- what is told ----------------------------------------------------------------------------------


def test_what_is_held_of_requests_is_told(publisher: Publisher) -> None:
    index = Index()
    with feed_on(index, publisher.address) as feed:
        connected(feed, publisher)
        publisher.publish(stored([1, 2], ABCD))
        feed.follow(Prompt("a", [*ABCD, 9]))
        until(lambda: index.holds(a=8))
        publisher.publish(removed(2))
        until(lambda: index.holds(a=4))
        assert feed.state()["state"] == "exact"
        last = index.messages[-1]
        assert (last.engine, last.kind, last.block_size, last.more) == ("kv", "vllm", 4, 0)
        numbers = [m.seq for m in index.messages if m.epoch == last.epoch]
        assert numbers == list(range(len(numbers)))


def test_an_older_form_and_several_ranks() -> None:
    ranks = [Publisher((0, None))]
    with contextlib.ExitStack() as stack:
        while len(ranks) < 2:  # the next port must be free
            try:
                ranks.append(Publisher((ranks[0].port + 1, None)))
            except OSError:
                ranks[0].close()
                ranks[0] = Publisher((0, None))
        for rank in ranks:
            stack.callback(rank.close)
        index = Index()
        feed = stack.enter_context(feed_on(index, f"{ranks[0].address},ranks=2"))
        connected(feed, *ranks)
        ranks[0].publish(["BlockStored", [1], None, [1] * 4, 4, None])
        ranks[1].publish(["BlockStored", [5, 6], None, ABCD, 4, None])
        feed.follow(Prompt("a", ABCD))
        until(lambda: index.holds(a=8))
        ranks[1].publish(["BlockRemoved", [5]])
        until(lambda: index.holds(a=4))
        assert feed.state()["ranks"] == 2


def test_a_prompt_of_another_length_than_the_engine_counted_is_not_believed(
    publisher: Publisher,
) -> None:
    index = Index()
    with feed_on(index, publisher.address) as feed:
        connected(feed, publisher)
        publisher.publish(stored([1, 2], ABCD))
        feed.follow(Prompt("first", ABCD[:4]))
        until(lambda: index.holds(first=4))
        feed.follow(Prompt("a", ABCD, 9))
        feed.follow(Prompt("b", None, 8))
        feed.follow(Prompt("c", [2**70] * 4))
        feed.follow(Prompt("d", ABCD, 8))
        until(lambda: index.holds(first=4, d=8))
        assert feed.state()["num_unmapped"] == 3
        told = [event for message in index.messages for event in message.events]
        assert Event("unfollowed", "a") in told


def test_what_is_missing_of_a_prompt_is_told_once_no_more_is_on_its_way(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contextpilot.sync.sources.kv_events.feed.SETTLE_S", 0.1)
    index = Index()
    with feed_on(index, publisher.address) as feed:
        connected(feed, publisher)
        publisher.publish(stored([1], ABCD[:4]))
        feed.follow(Prompt("a", ABCD))
        until(lambda: any(Event("truncated", "a", 4, 8) in m.events for m in index.messages))


def test_a_life_sign_comes_only_while_the_engine_is_there(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contextpilot.sync.sources.kv_events.feed.HEARTBEAT_S", 0.05)
    index = Index()
    with feed_on(index, publisher.address) as feed:
        connected(feed, publisher)
        before = len(index.messages)
        until(lambda: len(index.messages) > before + 3)
        publisher.close()
        until(lambda: feed.state()["state"] == "off")
        before = len(index.messages)
        time.sleep(0.3)
        assert len(index.messages) == before


def test_an_index_that_lost_count_gets_all(publisher: Publisher) -> None:
    index = Index()
    with feed_on(index, publisher.address) as feed:
        connected(feed, publisher)
        publisher.publish(stored([1, 2], ABCD))
        feed.follow(Prompt("a", ABCD))
        until(lambda: index.holds(a=8))
        index.held.clear()
        index.answer = "resync"
        publisher.publish(stored([3], [3] * 4))
        feed.follow(Prompt("b", [3] * 4))
        until(lambda: index.holds(a=8, b=4))


# -- gaps, joining late, restarts ------------------------------------------------------------------


def test_who_joins_late_reads_what_came_before(publisher: Publisher) -> None:
    publisher.publish(stored([1, 2], ABCD))
    publisher.publish(removed(2))
    index = Index()
    with feed_on(index, publisher.address) as feed:
        feed.follow(Prompt("a", ABCD))
        until(lambda: index.holds(a=4))
        until(lambda: feed.state()["state"] == "exact")


def test_who_joins_late_without_replay_believes_little_until_the_cache_was_empty() -> None:
    publisher = Publisher((0, None))
    index = Index()
    publisher.publish(stored([1], ABCD[:4]))
    with contextlib.closing(publisher), feed_on(index, publisher.address) as feed:
        connected(feed, publisher)
        publisher.publish(stored([2], ABCD[4:], 1))
        feed.follow(Prompt("a", ABCD))
        publisher.publish(stored([3], [3] * 4))
        feed.follow(Prompt("b", [3] * 4))
        until(lambda: index.holds(b=4))
        assert feed.state()["state"] == "approximate"
        assert index.messages[-1].more
        publisher.publish(CLEARED)
        until(lambda: feed.state()["state"] == "exact" and index.holds())
        until(lambda: not index.messages[-1].more)


def test_a_gap_is_replayed(publisher: Publisher) -> None:
    index = Index()
    with feed_on(index, publisher.address) as feed:
        connected(feed, publisher)
        publisher.publish(stored([1, 2], ABCD))
        feed.follow(Prompt("a", ABCD))
        until(lambda: index.holds(a=8))
        publisher.publish(removed(2), lose=True)
        publisher.publish(stored([3], [3] * 4))
        feed.follow(Prompt("b", [3] * 4))
        until(lambda: index.holds(a=4, b=4))
        state = feed.state()
        assert (state["num_gaps"], state["num_replayed"]) == (1, 2)
        assert state["state"] == "exact"


@pytest.mark.parametrize("fault", ["no replay", "kept no more", "no answer"])
def test_a_gap_that_nobody_replays_sets_belief_back(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_module, "REPLAY_TIMEOUT_S", 0.3)
    publisher = Publisher((0, None if fault == "no replay" else 0))
    index = Index()
    with contextlib.closing(publisher), feed_on(index, publisher.address) as feed:
        connected(feed, publisher)
        time.sleep(0.7)  # the first look at what came before
        publisher.publish(stored([1, 2], ABCD))
        feed.follow(Prompt("a", ABCD))
        until(lambda: index.holds(a=8))
        publisher.answers = fault != "no answer"
        publisher.publish(removed(2), lose=True, forget=True)
        publisher.publish(stored([3], [3] * 4))
        feed.follow(Prompt("b", [3] * 4))
        until(lambda: index.holds(b=4))
        assert feed.state()["state"] == "approximate"
        publisher.publish(stored([4], [4] * 4, 1))  # so block 1 is there after all
        until(lambda: index.holds(a=4, b=4))


def test_a_gap_at_the_end_shows_once_a_prompt_was_read(publisher: Publisher) -> None:
    index = Index()
    with feed_on(index, publisher.address) as feed:
        begin(feed, index, publisher)
        publisher.publish(removed(1), lose=True)
        publisher.publish(stored([2], [3] * 4), lose=True)
        feed.follow(Prompt("b", [3] * 4))
        until(lambda: index.holds(b=4))
        assert feed.state()["num_replayed"] == 2
        num_asked = publisher.num_asked
        feed.follow(Prompt("c", [3] * 4))
        until(lambda: publisher.num_asked > num_asked)
        assert index.holds(b=4, c=4)
        assert (feed.state()["num_replayed"], feed.state()["num_repeated"]) == (2, 0)


def test_who_does_not_replay_is_not_asked_again(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriber_module, "REPLAY_TIMEOUT_S", 0.2)
    index = Index()
    with feed_on(index, publisher.address) as feed:
        begin(feed, index, publisher)
        until(lambda: publisher.num_asked > 0)  # once it was connected
        publisher.answers = False
        num_asked = publisher.num_asked
        for name in ("b", "c"):
            feed.follow(Prompt(name, [5] * 4))
            until(lambda name=name: name in feed._settling)  # type: ignore[misc]
            until(lambda: not feed._settling)
        publisher.publish(stored([5], [5] * 4))
        until(lambda: index.holds(a=4, b=4, c=4))
        assert publisher.num_asked == num_asked + 1


def test_a_message_that_comes_again_is_ignored(publisher: Publisher) -> None:
    index = Index()
    with feed_on(index, publisher.address) as feed:
        connected(feed, publisher)
        payload = publisher.publish(stored([1], ABCD[:4]))
        feed.follow(Prompt("a", ABCD))
        until(lambda: index.holds(a=4))
        for _ in range(3):
            publisher.repeat(0, payload)
        publisher.publish(removed(1))
        until(lambda: index.holds())
        assert feed.state()["num_repeated"] == 3


def test_an_engine_that_began_anew_holds_nothing_of_before(publisher: Publisher) -> None:
    index = Index()
    with feed_on(index, publisher.address) as feed:
        connected(feed, publisher)
        for number in range(5):
            publisher.publish(stored([number], [number] * 4))
        feed.follow(Prompt("a", [1] * 4))
        until(lambda: index.holds(a=4))
        epoch = index.messages[-1].epoch
        publisher.number = 0
        publisher.publish(stored([7], [7] * 4))
        feed.follow(Prompt("b", [7] * 4))
        until(lambda: index.holds(b=4))
        assert index.messages[-1].epoch != epoch
        assert feed.state()["num_restarts"] == 1


@pytest.mark.parametrize("has_replay", [True, False])
@pytest.mark.parametrize("num_messages", [0, 2, 9])
def test_a_restart_behind_a_broken_connection(has_replay: bool, num_messages: int) -> None:
    first = Publisher((0, 0 if has_replay else None))
    index = Index()
    with contextlib.ExitStack() as stack:
        stack.callback(first.close)
        feed = stack.enter_context(feed_on(index, first.address))
        connected(feed, first)
        for number in range(4):
            first.publish(stored([number], [number] * 4))
        feed.follow(Prompt("a", [1] * 4))
        until(lambda: index.holds(a=4))
        first.close()
        until(lambda: feed.state()["state"] == "off")
        again = Publisher((first.port, first.replay_port))
        stack.callback(again.close)
        for number in range(10, 10 + num_messages):  # before we are there again
            again.publish(stored([number], [number] * 4), lose=True)
        until(lambda: index.holds())
        connected(feed, again)
        time.sleep(0.7)
        again.publish(stored([99], [99] * 4))
        feed.follow(Prompt("b", [99] * 4))
        feed.follow(Prompt("c", [11] * 4))
        found = {"b": 4, "c": 4} if has_replay and num_messages > 1 else {"b": 4}
        until(lambda: index.holds(**found))


def test_a_broken_connection_to_the_same_engine(publisher: Publisher) -> None:
    index = Index()
    with feed_on(index, publisher.address) as feed:
        connected(feed, publisher)
        for number in range(4):
            publisher.publish(stored([number], [number] * 4))
        feed.follow(Prompt("a", [1] * 4))
        feed.follow(Prompt("b", [2] * 4))
        until(lambda: index.holds(a=4, b=4))
        place = f"tcp://127.0.0.1:{publisher.port}"
        publisher.pub.unbind(place)
        publisher.publish(removed(1), lose=True)
        publisher.pub.close(0)
        until(lambda: feed.state()["state"] == "off")
        publisher.reopen()
        until(lambda: index.holds(b=4))
        assert feed.state()["num_restarts"] == 0


def test_a_cache_that_was_emptied(publisher: Publisher) -> None:
    index = Index()
    with feed_on(index, publisher.address) as feed:
        begin(feed, index, publisher)
        publisher.publish(CLEARED)
        until(lambda: index.holds())
        assert index.messages[-1].snapshot


# -- faults ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        b"no msgpack \xc1",
        msgspec.msgpack.encode([1.0, [{"type": "BlockMoved"}]]),
        b"\xc0" * 9_000_000,
    ],
    ids=["no msgpack", "an unknown event", "too large"],
)
def test_a_payload_that_is_none_sets_belief_back_and_is_not_logged(
    publisher: Publisher,
    payload: bytes,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subscriber_module, "REOPEN_AFTER_S", 0.2)
    monkeypatch.setattr(subscriber_module, "REPLAY_TIMEOUT_S", 0.3)
    caplog.set_level(logging.DEBUG)
    index = Index()
    with feed_on(index, publisher.address) as feed:
        begin(feed, index, publisher)
        publisher.send(payload)
        until(lambda: index.holds())
        if len(payload) > MAX_BYTES:  # it ended the connection
            connected(feed, publisher)
        publisher.publish(stored([2], [2] * 4))
        feed.follow(Prompt("b", [2] * 4))
        until(lambda: index.holds(b=4))
    assert not any("msgpack" in text or "Moved" in text for text in caplog.messages)


def test_endless_rubbish_keeps_nobody_from_closing(publisher: Publisher) -> None:
    index = Index()
    with feed_on(index, publisher.address) as feed:
        connected(feed, publisher)
        for _ in range(3000):
            publisher.pub.send_multipart([b"\xff" * 50])
        publisher.publish(stored([1], [1] * 4))
        feed.follow(Prompt("a", [1] * 4))
        until(lambda: index.holds(a=4))


def test_a_failure_of_ours_begins_again(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("contextpilot.sync.sources.kv_events.feed.AGAIN_AFTER_S", 0.1)
    index = Index()
    with feed_on(index, publisher.address) as feed:
        begin(feed, index, publisher)
        index.fails = True
        publisher.publish(stored([2], [2] * 4))
        feed.follow(Prompt("b", [2] * 4))
        until(lambda: any("starting again" in text for text in caplog.messages))
        until(lambda: not index.fails)
        feed.follow(Prompt("c", [1] * 4))
        until(lambda: index.held.get("c") == 4)


FULL = {"group_idx": 0, "kv_cache_spec_kind": "full_attention"}
STATES = {"group_idx": 1, "kv_cache_spec_kind": "mamba"}


def test_of_a_hybrid_cache_points_are_told(publisher: Publisher) -> None:
    index = Index()
    with feed_on(index, publisher.address) as feed:
        connected(feed, publisher)
        publisher.publish(stored([1, 2], ABCD, **FULL))
        feed.follow(Prompt("a", ABCD))
        until(lambda: index.holds(a=8))
        assert not index.messages[-1].sparse
        publisher.publish(stored([1], ABCD, **STATES))
        until(lambda: index.holds(a=4))
        last = next(m for m in reversed(index.messages) if m.events)
        assert (last.sparse, last.events[-1].points) == (True, ((4, 4),))
        publisher.publish(removed(1, group_idx=1))
        until(lambda: index.holds())
        assert (feed.state()["state"], feed.state()["is_hybrid"]) == ("exact", True)


def test_of_layers_that_may_draft_what_is_computed_anew_is_told(publisher: Publisher) -> None:
    index, said = Index(), ToldLayers(drafts=True)
    feed = KvFeed("kv", parse_addresses([publisher.address])[0], index.told(), layers=lambda: said)
    feed.start()
    with contextlib.closing(feed):
        begin(feed, index, publisher)
        publisher.publish(stored([2], [2] * 4, parent=1))
        feed.follow(Prompt("b", [1, 1, 1, 1, 2, 2, 2, 2, 3]))
        until(lambda: index.holds(a=4, b=8))
        last = next(m for m in reversed(index.messages) if m.events)
        assert (last.dropped, last.events[-1].points) == (4, ((4, 8),))
        said = ToldLayers()
        until(lambda: index.messages[-1].dropped == 0)
        assert index.messages[-1].events[-1].points is None
        publisher.publish(stored([1], [1] * 4, **STATES))
        until(lambda: feed.state()["is_hybrid"])
        said = ToldLayers(drafts=True)
        until(lambda: "may draft" in feed.refused)
        until(lambda: index.holds())


def test_a_hybrid_cache_that_is_not_understood_is_not_told_of(publisher: Publisher) -> None:
    index = Index()
    with feed_on(index, publisher.address) as feed:
        begin(feed, index, publisher)
        publisher.publish(stored([1], [1] * 8, size=8, **STATES))
        until(lambda: feed.refused)
        until(lambda: index.holds() and index.num_left)
        assert (feed.state()["state"], feed.state()["refused"]) == ("off", feed.refused)


# -- beside the hooks ------------------------------------------------------------------------------


def test_hooks_are_checked_and_speak_alone(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contextpilot.sync.sources.kv_events.feed._CHECK_EVERY_S", 0.05)
    index = Index()
    with feed_on(index, publisher.address) as feed:
        connected(feed, publisher)
        publisher.publish(stored([1, 2], ABCD))
        for request in ("a", "b", "c"):
            feed.follow(Prompt(request, ABCD))
        until(lambda: index.holds(a=8, b=8, c=8))
        index.hooks_told = {"a": 8, "b": 4}
        index.has_hooks = True
        until(lambda: feed.state()["num_agreed"] == 1 and feed.state()["num_differing"] == 1)
        assert index.num_left == 1
        assert index.holds()
        index.hooks_told["b"] = 8
        until(lambda: feed.state()["num_agreed"] == 2)
        index.has_hooks = False
        until(lambda: index.holds(a=8, b=8, c=8))


# -- where -----------------------------------------------------------------------------------------


def test_addresses() -> None:
    one = "tcp://engine-1:5557,replay=tcp://engine-1:5657,ranks=4,topic=kv@,tokenizer=/models/m"
    found = parse_addresses([one, "tcp://[::1]:5557"])
    place = "tcp://engine-1:5557"
    assert found[0] == KvAddress(place, "tcp://engine-1:5657", 4, "kv@", "/models/m")
    assert found[0].endpoint_of(3) == "tcp://engine-1:5560"
    assert found[0].replay_of(3) == "tcp://engine-1:5660"
    assert found[1].endpoint == "tcp://[::1]:5557"
    assert parse_addresses(one.split(",")) == found[:1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tcp://*:5557", "host by name"),
        ("tcp://0.0.0.0:5557", "names no host"),
        ("ipc:///tmp/x", "must be like"),
        ("127.0.0.1:5557", "must be like"),
        ("tcp://a:0", "port"),
        ("tcp://a:65535,ranks=2", "port"),
        ("tcp://a:1,ranks=65", "ranks"),
        ("tcp://a:1,ranks=x", "ranks"),
        ("tcp://a:1,colour=red", "colour"),
        ("tcp://a:1,replay=tcp://*:2", "host by name"),
        ("tcp://a:5557,replay=tcp://a:5558,ranks=2", "ports further apart"),
    ],
)
def test_what_is_no_address_says_why(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_addresses([text])
