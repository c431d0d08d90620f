import threading

import pytest
from contextpilot_hooks.ledger import Event, Ledger


def test_newest_number_wins_and_is_told_once():
    ledger = Ledger()
    ledger.set("a", 32, 50)
    ledger.set("a", 48, 50)
    ledger.set("b", 16, 20)
    assert ledger.take() == [Event("cached", "a", 48, 50), Event("cached", "b", 16, 20)]
    assert ledger.take() == []
    ledger.set("a", 48, 50)
    assert ledger.take() == []
    ledger.set("a", 16, 50)
    assert ledger.take() == [Event("truncated", "a", 16, 50)]
    ledger.set("a", 0, 50)
    assert ledger.take() == [Event("truncated", "a", 0, 50)]


def test_what_came_and_went_unseen_is_told_to_be_gone():
    ledger = Ledger()
    ledger.set("a", 32, 50)
    ledger.set("a", 0, 50)
    ledger.set("b", 0, 50)
    assert ledger.take() == [Event("truncated", "a", 0, 50), Event("truncated", "b", 0, 50)]


def test_what_shrank_unseen_is_told_to_be_cut():
    ledger = Ledger()
    ledger.set("a", 32, 50)
    ledger.set("a", 16, 50)
    assert ledger.take() == [Event("truncated", "a", 16, 50)]
    ledger.set("a", 32, 50)
    assert ledger.take() == [Event("cached", "a", 32, 50)]


def test_unfollowed_is_not_gone():
    ledger = Ledger()
    ledger.set("a", 32, 50)
    ledger.take()
    ledger.unfollow("a")
    assert ledger.take() == [Event("unfollowed", "a")]
    assert ledger.snapshot() == []
    ledger.set("a", 32, 50)
    assert ledger.take() == [Event("cached", "a", 32, 50)]


def test_clear_comes_before_what_follows_it():
    ledger = Ledger()
    ledger.set("a", 32, 50)
    ledger.set("b", 32, 50)
    ledger.take()
    ledger.set("a", 48, 50)
    ledger.clear()
    ledger.set("b", 16, 50)
    assert ledger.take() == [Event("cleared"), Event("cached", "b", 16, 50)]
    assert ledger.snapshot() == [Event("cached", "b", 16, 50)]


def test_snapshot_holds_what_was_not_taken():
    ledger = Ledger()
    ledger.set("a", 32, 50)
    assert ledger.snapshot() == [Event("cached", "a", 32, 50)]
    assert ledger.take() == []


def test_requests_are_bounded_and_the_oldest_are_no_longer_followed():
    ledger = Ledger(max_requests=3)
    for name in "abcd":
        ledger.set(name, 16, 20)
    events = ledger.take()
    assert Event("unfollowed", "a") in events
    assert {event.request for event in ledger.snapshot()} == set("bcd")
    assert ledger.dropped == 1


def test_memory_stays_bounded_while_nobody_takes():
    ledger = Ledger(max_requests=10)
    ledger.set("first", 16, 20)
    ledger.take()
    for number in range(1000):
        ledger.set(f"r{number}", 16, 20)
        assert len(ledger._marks) <= 40
    assert ledger.lost
    held = ledger.snapshot()
    assert len(held) <= 10
    assert held[-1] == Event("cached", "r999", 16, 20)
    assert not ledger.lost
    assert ledger.take() == []


def test_of_changes_dropped_a_snapshot_tells_the_truth():
    ledger = Ledger(max_requests=10)
    for number in range(3):
        ledger.set(f"told{number}", 16, 20)
    ledger.take()
    ledger.unfollow("told0")
    ledger.set("told1", 0, 20)
    for number in range(1000):
        ledger.set(f"r{number}", 16, 20)
        if number >= 5:
            (ledger.unfollow if number % 2 else lambda r: ledger.set(r, 0, 20))(f"r{number - 5}")
    assert {e.request for e in ledger.snapshot()} == {"told2", *(f"r{n}" for n in range(995, 1000))}
    assert ledger.dropped == 0


def test_writer_and_reader_together_agree_in_the_end():
    ledger, state = Ledger(), {}
    done = threading.Event()

    def read():
        finished = False
        while not finished:
            finished = done.is_set()
            for event in ledger.take():
                if event.kind == "cleared":
                    state.clear()
                else:
                    state[event.request] = event.tokens

    reader = threading.Thread(target=read)
    reader.start()
    last = {}
    for number in range(20000):
        if number % 5000 == 4999:
            ledger.clear()
            last = {}
        name = f"r{number % 37}"
        last[name] = number % 11 * 16
        ledger.set(name, last[name], 200)
    done.set()
    reader.join()
    assert {k: v for k, v in state.items() if v} == {k: v for k, v in last.items() if v}


def test_bad_bound():
    with pytest.raises(ValueError, match="max_requests"):
        Ledger(max_requests=0)
