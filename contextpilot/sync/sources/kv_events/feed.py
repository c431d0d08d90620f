"""Follows one engine by its KV events, and tells a receiver as the hooks in an engine would.

A thread listens; whoever sends prompts hands over their tokens beside that, through a queue. Where
the engine's own hooks report, nothing is told: then the events check what the hooks say.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from contextpilot.engines.base import ToldLayers
from contextpilot.sync.events import Event, SyncMessage
from contextpilot.sync.sources.kv_events.address import KvAddress
from contextpilot.sync.sources.kv_events.agreement import Agreement
from contextpilot.sync.sources.kv_events.chains import Chains
from contextpilot.sync.sources.kv_events.packages import load_packages
from contextpilot.sync.sources.kv_events.subscriber import Subscriber
from contextpilot.sync.sources.kv_events.wire import Change, Cleared, Stored, pack

logger = logging.getLogger(__name__)

TELL_EVERY_S = 0.02
HEARTBEAT_S = 5.0
AGAIN_AFTER_S = 5.0
"""Time after which listening begins again where it failed."""
SETTLE_S = 1.0
"""Time after which what the engine published while it read a prompt must have come."""
_MAX_PENDING = 256
_MAX_EVENTS = 2000
"""Events of one message; a snapshot with more comes in parts."""
_CHECK_EVERY_S = 2.0


class Prompt(NamedTuple):
    """A request that the engine has read.

    Attributes:
        tokens: of its prompt; None when they are not known: then nothing is believed of it.
        prompt_tokens: how many, as the answer said; None when it did not.
        model, salt: as they stood in the request.
    """

    request: str
    tokens: Sequence[int] | None
    prompt_tokens: int | None = None
    model: str = ""
    salt: str = ""


class _Packed(NamedTuple):
    """A prompt as it waits for the thread; `packed` is None when its tokens are not known."""

    request: str
    packed: bytes | None
    model: str
    salt: str


class Told(NamedTuple):
    """How a feed reaches the index.

    Attributes:
        receive: takes a message; returns "ok" or "resync".
        leave: takes back all that was told: from now on others speak.
        has_hooks: returns whether hooks report of the same engine.
        held: returns how many tokens of a request were told last; None: nothing.
    """

    receive: Callable[[SyncMessage], str]
    leave: Callable[[], object]
    has_hooks: Callable[[], bool]
    held: Callable[[str], int | None]


class KvFeed:
    """One engine's KV events, from `start` to `close`.

    Args:
        name: under which the receiver knows it.
        told: the receiver.
        kind: returns the kind of engine, for people.
        layers: returns what the engine itself says of its layers.

    Attributes:
        num_begun: how often the engine, or one of its ranks, began anew.

    Raises:
        MissingExtraError: pyzmq or msgspec is not installed.
    """

    def __init__(
        self,
        name: str,
        address: KvAddress,
        told: Told,
        kind: Callable[[], str] = lambda: "",
        layers: Callable[[], ToldLayers] = ToldLayers,
    ) -> None:
        self._zmq = load_packages()
        self.name = name
        self._address = address
        self._told = told
        self._kind = kind
        self._layers = layers
        self.num_begun = 0
        self._chains = Chains(address.ranks)
        self._subscribers: list[Subscriber] = []
        self._prompts: deque[_Packed] = deque()
        self._unsized: deque[_Packed] = deque()
        self._settling: OrderedDict[str, float] = OrderedDict()
        self._awaited: dict[str, _Packed] = {}
        self._given_up: list[Event] = []
        self._agreement = Agreement()
        self._epoch, self._number = "", 0
        self._shape = 0, False, False
        self._sent_at = self._checked_at = float("-inf")
        self._speaks = self._is_set_back = self._has_ended = False
        self._num_unmapped = 0
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._woken.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="contextpilot-kv", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """End listening; what was told stays."""
        self._has_ended = True
        self._ring()
        if self._thread.ident is not None:
            self._thread.join()
        self._wake.close()
        self._woken.close()

    def follow(self, prompt: Prompt) -> None:
        """Follow a request from now on; never waits. Any thread may call it."""
        tokens, counted, packed = prompt.tokens, prompt.prompt_tokens, None
        if tokens is not None and counted in (None, len(tokens)):
            with contextlib.suppress(OverflowError, TypeError):
                packed = pack(tokens)
        if len(self._prompts) >= _MAX_PENDING:
            packed = None
        self._prompts.append(_Packed(prompt.request, packed, prompt.model, prompt.salt))
        self._ring()

    @property
    def refused(self) -> str:
        """Why nothing is told of a cache like this one; "" where it is."""
        layers = self._chains.layers
        return layers.refused or ("" if layers.are_named else self._layers().doubt)

    @property
    def is_connected(self) -> bool:
        """Whether all ranks are there; any thread may ask."""
        ranks = self._subscribers
        return bool(ranks) and all(rank.is_connected for rank in ranks)

    def state(self) -> dict[str, Any]:
        """Return what is known, for people; any thread may ask."""
        ranks, connected = self._subscribers, self.is_connected
        complete = connected and all(rank.is_complete for rank in ranks)
        state = "off" if not connected else "exact" if complete else "approximate"
        if self.refused:
            state = "off"
        counts = ("messages", "replayed", "gaps", "restarts", "malformed", "repeated")
        return {
            "state": state,
            "role": "tells" if self._speaks else "checks",
            "is_hybrid": self._chains.layers.is_hybrid,
            "drafts": self._chains.layers.drafts,
            "refused": self.refused,
            "ranks": len(ranks),
            **{f"num_{n}": sum(getattr(rank, f"num_{n}") for rank in ranks) for n in counts},
            "num_blocks": len(self._chains),
            "num_requests": self._chains.num_requests,
            "num_unplaced": self._chains.num_unplaced,
            "num_unmapped": self._num_unmapped,
            **self._agreement.state(),
        }

    # -- a listener's part -----------------------------------------------------------------------

    def changed(self, rank: int, changes: list[Change]) -> None:
        """Take the changes of one message."""
        for change in changes:
            if isinstance(change, Cleared):
                self.unknown(rank)
            elif isinstance(change, Stored):
                self._chains.store(rank, change)
            else:
                self._chains.remove(rank, change)

    def unknown(self, rank: int) -> None:
        """Take nothing of a rank for known."""
        self._chains.clear(rank)
        self._is_set_back = True

    def began(self, rank: int, *, is_restart: bool) -> None:
        """Take everything of a rank for gone."""
        self.num_begun += 1
        self._chains.restart(rank)
        # what was sent just now may be what the engine's first message is about
        self._prompts.extendleft(reversed(self._awaited.values()))
        self._is_set_back = True
        if is_restart:
            self._epoch = ""

    # -- the thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._has_ended:
            self._listen_until_failure()
            self._chains, self._epoch = Chains(self._address.ranks), ""
            self._settling.clear()
            self._awaited.clear()
            until = time.monotonic() + AGAIN_AFTER_S
            while not self._has_ended and time.monotonic() < until:
                time.sleep(TELL_EVERY_S)

    def _listen_until_failure(self) -> None:
        context = self._zmq.Context()
        try:
            for rank in range(self._address.ranks):
                places = self._address.endpoint_of(rank), self._address.replay_of(rank)
                self._subscribers.append(
                    Subscriber(self._zmq, context, *places, self._address.topic, rank, self)
                )
            self._listen()
        except Exception:  # the engine and all requests go on without
            logger.exception("%s: listening failed, starting again", self.name)
        finally:
            for subscriber in self._subscribers:
                subscriber.close()
            self._subscribers = []
            context.destroy(0)

    def _listen(self) -> None:
        while not self._has_ended:
            poller = self._zmq.Poller()
            poller.register(self._woken, self._zmq.POLLIN)
            for subscriber in self._subscribers:
                poller.register(subscriber.socket, self._zmq.POLLIN)
                poller.register(subscriber.monitor, self._zmq.POLLIN)
            poller.poll(self._pause_s() * 1000)
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(4096)
            for subscriber in self._subscribers:
                subscriber.read()
            self._chains.expect_drafts(self._layers().drafts)
            self._take_prompts()
            self._doubt_silence()
            self._tell()
            self._check()
            time.sleep(TELL_EVERY_S)  # what comes meanwhile is told together

    def _pause_s(self) -> float:
        due = [d for d in (s.due_s() for s in self._subscribers) if d is not None]
        if self._settling:
            due.append(max(0.0, next(iter(self._settling.values())) - time.monotonic()))
        return min([1.0, *due])

    def _ring(self) -> None:
        with contextlib.suppress(OSError):  # full: the thread will look anyway
            self._wake.send(b"x")

    # -- requests --------------------------------------------------------------------------------

    def _take_prompts(self) -> None:
        if self._chains.block_size:
            while self._unsized:
                self._place(self._unsized.popleft())
        while self._prompts:
            prompt = self._prompts.popleft()
            if prompt.packed is None or self._chains.block_size:
                self._place(prompt)
            else:
                self._unsized.append(prompt)
                while len(self._unsized) > _MAX_PENDING:
                    self._give_up(self._unsized.popleft().request)

    def _place(self, prompt: _Packed) -> None:
        if prompt.packed is None:
            self._give_up(prompt.request)
            return
        self._chains.follow(prompt.request, prompt.packed, prompt.model, prompt.salt)
        self._settling.pop(prompt.request, None)  # the oldest stands first
        self._settling[prompt.request] = time.monotonic() + SETTLE_S
        self._awaited[prompt.request] = prompt

    def _give_up(self, request: str) -> None:
        self._num_unmapped += 1
        self._given_up.append(Event("unfollowed", request))

    def _doubt_silence(self) -> None:
        """Look for what was lost without a trace, once all has been quiet since a prompt."""
        due = next(iter(self._settling.values()), float("inf"))
        if due <= time.monotonic():
            for rank in self._subscribers:
                rank.check(due - SETTLE_S)

    # -- telling ---------------------------------------------------------------------------------

    def _tell(self) -> None:
        """Tell what changed, or that all is well."""
        is_connected = self.is_connected
        speaks = not self.refused and not self._told.has_hooks()
        if self._speaks and not speaks:
            self._speaks = False
            self._told.leave()
        changes = self._given_up + self._chains.changes() + self._settled()
        self._given_up = []
        if not speaks or not (self._speaks or is_connected):
            return
        layers = self._chains.layers
        shape = self._chains.block_size, layers.is_sparse, layers.drafts
        if not (self._speaks and self._epoch) or shape != self._shape:
            self._epoch, self._number, self._shape = uuid.uuid4().hex, 0, shape
            self._speaks = self._is_set_back = True
        if self._is_set_back:
            self._is_set_back = False
            self._send_all()
        elif changes or (is_connected and time.monotonic() - self._sent_at >= HEARTBEAT_S):
            self._send(changes)

    def _settled(self) -> list[Event]:
        """Return how much is held of requests of which no more is on its way."""
        now, told = time.monotonic(), []
        while self._settling and next(iter(self._settling.values())) <= now:
            request, _ = self._settling.popitem(last=False)
            self._awaited.pop(request, None)
            event = self._chains.settled(request)
            told += [event] if event is not None else []
        return told

    def _send(self, events: Sequence[Event]) -> None:
        for at in range(0, len(events) or 1, _MAX_EVENTS):
            if self._deliver(events[at : at + _MAX_EVENTS]) != "ok":
                self._send_all()
                return

    def _send_all(self) -> None:
        """Tell all that is held, in the place of what was told before."""
        held = self._chains.all_held()
        for at in range(0, len(held) or 1, _MAX_EVENTS):
            part, left = held[at : at + _MAX_EVENTS], len(held) - at - _MAX_EVENTS
            if self._deliver(part, is_snapshot=at == 0, more=max(0, left)) != "ok":
                return

    def _deliver(self, events: Sequence[Event], *, is_snapshot: bool = False, more: int = 0) -> str:
        is_whole = all(rank.is_connected and rank.is_complete for rank in self._subscribers)
        size, is_sparse, drafts = self._shape
        message = SyncMessage(
            engine=self.name,
            epoch=self._epoch,
            seq=self._number,
            events=tuple(events),
            snapshot=is_snapshot,
            kind=self._kind(),
            block_size=size or 1,
            more=more or (0 if is_whole else 1),
            sparse=is_sparse,
            dropped=size if drafts else 0,
        )
        self._sent_at = time.monotonic()
        self._number += 1
        return self._told.receive(message)

    # -- checking --------------------------------------------------------------------------------

    def _check(self) -> None:
        now = time.monotonic()
        if self._speaks or self.refused or now - self._checked_at < _CHECK_EVERY_S:
            return
        self._checked_at = now
        self._agreement.compare(self._chains, self._told.held)
