"""Where an engine publishes its KV events: "tcp://HOST:PORT[,replay=...][,ranks=N][,topic=T]"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_PLACE = re.compile(r"tcp://(\[[0-9a-fA-F:.%]+\]|[\w.-]+):(\d{1,5})", re.ASCII)
_EVERYWHERE = ("0.0.0.0", "[::]")
_LIKE = '"tcp://127.0.0.1:5557,replay=tcp://127.0.0.1:5558"'
_OPTIONS = ("replay", "ranks", "topic", "tokenizer", "engine")
MAX_RANKS = 64


@dataclass(frozen=True)
class KvAddress:
    """Where the events of one engine are, and how its prompts become tokens.

    Attributes:
        endpoint, replay: "tcp://HOST:PORT" of rank 0; each rank has the ports after that. No
            `replay`: what was missed stays unknown.
        ranks: data-parallel ranks that publish.
        topic: beginning of the topics to listen to.
        tokenizer: folder or name of a tokenizer to use here; "": the engine's own `/tokenize`.
        engine: base URL of the engine; a server that stands before it knows that.
    """

    endpoint: str
    replay: str = ""
    ranks: int = 1
    topic: str = ""
    tokenizer: str = ""
    engine: str = ""

    def __post_init__(self) -> None:
        for text in filter(None, (self.endpoint, self.replay)):
            _check_place(text, self.ranks)
        if self.replay and self.ranks > 1 and self._overlap():
            raise ValueError(
                f"kv_events: {self.ranks} ranks from {self.endpoint} and from {self.replay} on "
                "take the same ports: launch the engine with ports further apart"
            )

    def endpoint_of(self, rank: int) -> str:
        """Return where a rank publishes."""
        return _moved(self.endpoint, rank)

    def replay_of(self, rank: int) -> str:
        """Return where a rank replays; "" where none does."""
        return _moved(self.replay, rank) if self.replay else ""

    def _overlap(self) -> bool:
        (host, port), (other, again) = _split(self.endpoint), _split(self.replay)
        return host == other and abs(port - again) < self.ranks


def parse_addresses(texts: Iterable[str]) -> list[KvAddress]:
    """Return the addresses in texts, which may come in pieces: each `tcp://` begins another.

    Raises:
        ValueError: a text is none; it is named.
    """
    found: list[dict[str, str]] = []
    for piece in ",".join(texts).replace(" ", ",").split(","):
        name, is_named, value = piece.partition("=")
        if piece.startswith("tcp:"):
            found.append({"endpoint": piece})
        elif piece and found and is_named:
            if name not in _OPTIONS:
                raise ValueError(f"kv_events: {name!r} is none of {', '.join(_OPTIONS)}")
            found[-1][name] = value
        elif piece:
            raise ValueError(f"kv_events must be like {_LIKE}, not {piece!r}")
    return [_address(**parts) for parts in found]


def _address(ranks: str = "1", **texts: str) -> KvAddress:
    if not ranks.isdigit() or not 1 <= int(ranks) <= MAX_RANKS:
        raise ValueError(f"kv_events: ranks must be 1 to {MAX_RANKS}, not {ranks!r}")
    return KvAddress(ranks=int(ranks), **texts)


def _check_place(text: str, ranks: int) -> None:
    if not _PLACE.fullmatch(text):
        raise ValueError(f"kv_events must be like {_LIKE}, with a host by name, not {text!r}")
    host, port = _split(text)
    if host in _EVERYWHERE:
        raise ValueError(f"kv_events: {host} names no host; say where the engine is")
    if not 1 <= port <= 65536 - ranks:
        raise ValueError(f"kv_events: port must be 1 to {65536 - ranks}, not {port}")


def _split(text: str) -> tuple[str, int]:
    host, _, port = text.removeprefix("tcp://").rpartition(":")
    return host, int(port)


def _moved(text: str, rank: int) -> str:
    host, port = _split(text)
    return f"tcp://{host}:{port + rank}"
