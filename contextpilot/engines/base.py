"""The interface to a kind of engine: all that the project knows of vLLM, SGLang, llama-server, ...

A kind is one file beside this one, with an object `ENGINE` of a class derived from `EngineKind`. It
names and overrides what differs; all defaults are those of an engine that nothing is known of: its
requests go on as they are, and nothing is asked of it.

| who asks               | what                                                                   |
|------------------------|------------------------------------------------------------------------|
| the pool               | `probes`, `hosts`, `load`, `num_slots`, `is_synced_by_age`             |
| the proxy              | `members`, ids, salts, `cache_members`, cache marks, slots, `usage`    |
| KV events              | `tokenize_body`, `told_layers`                                         |
| `contextpilot bench`   | `owner`, `title`, `describe`, `reset`, the flags                       |
| `contextpilot doctor`  | `distribution`, `program`, `plugin_group`, `hooked_modules`, the flags |
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from contextpilot.plan.online import Head


Get: TypeAlias = Callable[[str], Awaitable[tuple[int, bytes]]]
"""Fetches a URL: status and body; raises OSError (TimeoutError, too) when nothing answers."""
Ask: TypeAlias = Callable[..., Awaitable[tuple[int, Any]]]
"""`await ask(method, path, body=None)`: status and content, decoded JSON or else text."""


class ToldLayers(NamedTuple):
    """What an engine says of its layers that its KV events leave out.

    Attributes:
        doubt: why events that name no layers do not tell what can be reused; "" if they do.
        drafts: whether some of them may draft (EAGLE, MTP): then the last block of what is found
            in the cache is computed anew.
    """

    doubt: str = ""
    drafts: bool = False


UNKNOWN_LAYERS = ToldLayers(
    "the engine's layers are not known yet, or its kind is unknown", drafts=True
)
"""Nobody could be asked so far."""


class Probe(NamedTuple):
    """A path that tells a kind of engine, and what its answer (status 200) contains.

    Attributes:
        is_common: others may serve the same; asked after those that are not.
    """

    path: str
    sign: bytes
    is_common: bool = False


class LoadNames(NamedTuple):
    """Metrics, as written at /metrics, of the requests that an engine runs, and that it queues."""

    running: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


class UsageNames(NamedTuple):
    """Members of an answer that count tokens.

    Attributes:
        prompt: the whole prompt.
        cached: of the prompt, from the cache.
        cached_apart: the same, by an engine whose `prompt` leaves these and `written` out.
        written: of the prompt, written into the cache.
        written_long: of these, what is kept longer than it would be unasked.
        computed: the prompt without what was cached.
        generated: the answer.
    """

    prompt: tuple[str, ...] = ()
    cached: tuple[str, ...] = ()
    cached_apart: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    written_long: tuple[str, ...] = ()
    computed: tuple[str, ...] = ()
    generated: tuple[str, ...] = ()


class Cache(NamedTuple):
    """An engine's prefix cache.

    Attributes:
        tokens: that it holds; None where the engine does not tell.
        block_size: tokens that are cached as a whole.
        num_slots: prompts that it holds at most; None for a tree of blocks.
        host_tokens: prompt tokens that the host's memory holds besides the slots.
    """

    tokens: int | None = None
    block_size: int = 1
    num_slots: int | None = None
    host_tokens: int = 0

    def hits(self, held: int, prompt_tokens: int) -> int:
        """Return how many tokens of a prompt hit, of which so many leading ones are held.

        Whole blocks, and never the last token: what it leads to has to be computed.
        """
        return min(held, prompt_tokens - 1) // self.block_size * self.block_size


class SlotWish(NamedTuple):
    """Where a request may run, at an engine with slots.

    Attributes:
        may_choose: whether a slot may be asked for.
        given: the slot that the client asked for.
        num_answers: answers that the client asked for; each takes a slot.
    """

    may_choose: bool = True
    given: int | None = None
    num_answers: int = 1


class Program(NamedTuple):
    """An engine that is a program: its name on PATH, and the variable that names another."""

    name: str
    variable: str


class EngineKind:
    """One kind of engine. Immutable; one object serves all engines of its kind.

    Attributes:
        name: in `--kind`, in events and in reports; unique, lower case.
        title: for people.
        probes: any of them tells this kind.
        hosts: public hosts, known without being asked.
        paths: a segment of a base URL's path that tells the same of any host.
        key_header: the header that takes the server's own key, and what stands before it there.
        owner: what `/v1/models` gives as `owned_by`; "" where it tells nothing.
        distribution: the Python package that the hooks attach to; "" for none.
        plugin_group: entry points by which it loads plugins.
        hooked_modules: modules that the hooks look at; the first is what `attach` gets.
        program: where it is a program instead.
        usual_port: where it listens unless told otherwise; 0: nowhere of its own.
        report_flag: launches it so that it reports cached tokens; "" where it does anyway.
        uncached_flag: launches it without a prefix cache.
        sharing_flag: launches it so that a sparse cache keeps what the first sharer needs.
        reset_hint: what makes `reset` work.
        load, usage: names by which it tells of its load, and of an answer's tokens.
        takes_id_header: whether it, or what stands before it, gets our `X-Request-Id`.
        salt_member: body member by which `--cache-salt` divides its cache; "" where it has none.
        cache_members: all body members that divide its cache, beside the model.
        has_cache_marks: whether `with_cache_marks` adds anything.
        is_synced_by_age: it tells nothing of its cache, and drops what was not used for a while.
    """

    name = "other"
    title = "engine"
    probes: tuple[Probe, ...] = ()
    hosts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    key_header: tuple[bytes, bytes] = (b"authorization", b"Bearer ")
    owner = ""
    distribution = ""
    plugin_group = ""
    hooked_modules: tuple[str, ...] = ()
    program: Program | None = None
    usual_port = 0
    report_flag = ""
    uncached_flag = ""
    sharing_flag = ""
    reset_hint = ""
    load = LoadNames()
    usage = UsageNames()
    takes_id_header = True
    salt_member = "cache_salt"
    cache_members: tuple[str, ...] = ("cache_salt",)
    has_cache_marks = False
    is_synced_by_age = False

    def __repr__(self) -> str:
        return f"<engine kind {self.name}>"

    # -- requests --------------------------------------------------------------------------------

    def members(self, api: str, request_id: str | None, slot: int | None = None) -> dict[str, Any]:
        """Return body members that carry our request id, and ask for a slot.

        Args:
            api: name of the API's shape ("chat", "completions", "messages", ...).
            request_id: None for a request that was not planned.
            slot: None to leave the choice to the engine.
        """
        return {}

    def salt_refusal(self, api: str) -> str:
        """Return why a salt would not be heeded at this API, and the fix; "" where it is."""
        return ""

    def with_cache_marks(
        self,
        body: dict[str, Any],
        namespace: str,
        head: Head,
        cuts: Sequence[int] = (),
        *,
        long: bool = False,
    ) -> dict[str, Any]:
        """Return a planned body with what makes its prefix be found again; the caller's own wins.

        Args:
            head: what stands before the blocks: requests that share it go to the same cache.
            cuts: characters of the last message's text after which a prefix may be found again.
            long: ask for a longer life of what is kept.
        """
        return body

    def with_recurring_marks(
        self, body: dict[str, Any], has_opening: bool, num_turns: int, *, long: bool = False
    ) -> dict[str, Any]:
        """Return an unplanned body with marks where a later prompt may find it again.

        Args:
            has_opening: its tools and system prompt were sent before.
            num_turns: so many of its first messages were.
            long: ask for a longer life of what is kept.
        """
        return body

    def retention_s(self, body: bytes) -> float:
        """Return for how many seconds a request asks to keep its prefix; 0: as long as usual."""
        return 0.0

    def slot_wish(self, api: str, body: Mapping[str, Any]) -> SlotWish:
        """Return where a request may run."""
        return SlotWish(may_choose=False)

    def tokenize_body(self, api: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return what to post to `/tokenize` for a request's tokens; None when that tells none."""
        return None

    # -- the engine itself -----------------------------------------------------------------------

    async def num_slots(self, url: str, get: Get) -> int:
        """Return how many slots it has, each with a prompt of its own; 0 for none, or unknown."""
        return 0

    async def describe(self, ask: Ask) -> tuple[str, Cache]:
        """Return version and cache, as far as it tells. Errors of `ask` pass through."""
        return "", Cache()

    async def reset(self, ask: Ask, cache: Cache) -> bool:
        """Empty its prefix cache; return whether it did."""
        return False

    async def told_layers(self, ask: Ask) -> ToldLayers:
        """Return what it says of its layers; errors of `ask` pass through."""
        return UNKNOWN_LAYERS


def member(content: Any, name: str) -> Any:
    """Return a member of decoded JSON; "" where it is absent or null."""
    found = content.get(name) if isinstance(content, Mapping) else None
    return "" if found is None else found


class CloudKind(EngineKind):
    """An API before many machines, which tells nothing of its caches but by marks and usage."""

    takes_id_header = False
    salt_member = ""
    has_cache_marks = True
    is_synced_by_age = True
