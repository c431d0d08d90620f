import logging

import pytest
from contextpilot_hooks.guard import Guard
from contextpilot_hooks.patching import NotSupported, PatchSet, after, argument


def make_host():
    class Base:
        def inherited(self, x):
            return x

    class Host(Base):
        def add(self, request, *, loud=False, **rest):
            if request == "boom":
                raise KeyError(request)
            return [request, loud, rest]

        @property
        def size(self):
            return 1

    return Host


def note(seen):
    return lambda self, result, args, kwargs: seen.append((result, args, kwargs))


def test_result_and_arguments_pass_through_untouched():
    host, seen = make_host(), []
    patches = PatchSet("host 1")
    patches.wrap(host, "add", after(Guard("g"), note(seen)), parameters=("request",))
    assert "contextpilot" not in host.add.__code__.co_name
    patches.apply()
    result = host().add("r", loud=True, unknown=3)
    assert result == ["r", True, {"unknown": 3}]
    assert seen[0][0] is result
    assert seen[0][1:] == (("r",), {"loud": True, "unknown": 3})


def test_exception_of_the_host_is_the_hosts():
    host, seen = make_host(), []
    patches = PatchSet("host 1")
    patches.wrap(host, "add", after(Guard("g"), note(seen)))
    patches.apply()
    with pytest.raises(KeyError, match="boom"):
        host().add("boom")
    assert not seen


@pytest.mark.swallows
def test_our_exception_never_reaches_the_host_and_trips_once(caplog):
    host, tripped = make_host(), []
    guard = Guard("our hook", limit=3)
    guard.on_trip(lambda: tripped.append(1))
    guard.on_trip(lambda: 1 / 0)

    def broken(*args):
        raise ValueError("ours")

    patches = PatchSet("host 1")
    patches.wrap(host, "add", after(guard, broken))
    patches.apply()
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            assert host().add("r")[0] == "r"
    assert guard.errors == 3
    assert not guard.active
    assert tripped == [1]
    assert [r.levelname for r in caplog.records if r.levelno >= logging.WARNING] == ["WARNING"]


def test_keyboard_interrupt_is_not_ours():
    def interrupted(*args):
        raise KeyboardInterrupt

    host = make_host()
    patches = PatchSet("host 1")
    patches.wrap(host, "add", after(Guard("g"), interrupted))
    patches.apply()
    with pytest.raises(KeyboardInterrupt):
        host().add("r")


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("absent", (), "absent is missing"),
        ("size", (), "not a plain function"),
        ("add", ("request", "block"), "lacks the parameter block"),
    ],
)
def test_another_shape_is_refused_and_nothing_is_set(name, parameters, message):
    host = make_host()
    before = dict(vars(host))
    patches = PatchSet("host 1")
    patches.wrap(host, "inherited", after(Guard("g"), note([])))
    with pytest.raises(NotSupported, match=message):
        patches.wrap(host, name, after(Guard("g"), note([])), parameters=parameters)
    assert dict(vars(host)) == before


def test_never_twice():
    host = make_host()
    patches = PatchSet("host 1")
    patches.wrap(host, "add", after(Guard("g"), note([])))
    patches.apply()
    patches.apply()
    with pytest.raises(NotSupported, match="already wrapped"):
        PatchSet("again").wrap(host, "add", after(Guard("g"), note([])))


def test_undo_restores_exactly():
    host = make_host()
    before = dict(vars(host))
    patches = PatchSet("host 1")
    for name in ("add", "inherited"):
        patches.wrap(host, name, after(Guard("g"), note([])))
    patches.apply()
    assert dict(vars(host)) != before
    assert patches.undo()
    assert patches.undo()
    assert dict(vars(host)) == before


def test_undo_leaves_a_foreign_wrapper_alone(caplog):
    host = make_host()
    patches = PatchSet("host 1")
    patches.wrap(host, "add", after(Guard("g"), note([])))
    patches.apply()
    ours = host.add
    host.add = foreign = lambda self, *a, **k: ours(self, *a, **k)
    assert not patches.undo()
    assert host.add is foreign
    assert "wrapped by somebody else" in caplog.text


def test_argument_reads_positions_and_names():
    def method(self, first, second=2):
        """Only its signature counts."""

    read = argument(method, "second")
    assert read((1, 5), {}) == 5
    assert read((1,), {"second": 6}) == 6
    with pytest.raises(NotSupported, match="third"):
        argument(method, "third")
