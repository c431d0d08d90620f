"""What a server may be told: as a flag, as CONTEXTPILOT_<NAME>, or in a TOML file.

The flag wins over the environment, and that over the file. Each field below is all three.
By hand: every command's parser reads the flags here, and pydantic-settings takes long to import;
nor do its errors name variable or file, or its lists come without JSON.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from contextpilot.engines.registry import AUTO, kind_names
from contextpilot.http.address import base_address, quoted
from contextpilot.http.keys import checked_key
from contextpilot.plan.bounds import ANCHORS, Bounds
from contextpilot.sync.sources.kv_events.address import parse_addresses

ENVIRONMENT_PREFIX = "CONTEXTPILOT_"
KINDS = (AUTO, *kind_names())
TENANTS = ("key", "header", "none")
LOG_FORMATS = ("text", "json")
LOG_LEVELS = ("debug", "info", "warning", "error")
MODES = ("auto", "xml", "numbered", "json", "markdown", "separator", "parts", "off")
SCOPES = ("all", "system", "user", "tool")

_LOOPBACK = "127.0.0.1"
_SAME_AS_LOOPBACK = ("localhost", "0.0.0.0", "::")  # who listens at all addresses is there, too
_SENT_KEYS = ("index_token", "upstream_key")
_MAX_S = 1_000_000_000
"""Thirty years: timers do not take much longer times, and none of infinity."""
_TRUE, _FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")


def _setting(
    default: Any, help: str, choices: tuple[str, ...] = (), low: float = 0, secret: bool = False
) -> Any:
    metadata = {"help": help, "choices": choices, "low": low, "secret": secret}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True)
class Settings:
    """Everything that a server may be told; immutable, checked on construction.

    Raises:
        TypeError, ValueError: a setting is of the wrong kind or out of range; it is named.
    """

    engine: tuple[str, ...] = _setting((), "base URL of an engine; give it once per engine")
    kv_events: tuple[str, ...] = _setting(
        (),
        "where an engine publishes KV events, tcp://HOST:PORT[,replay=tcp://HOST:PORT][,ranks=N]; "
        "once per engine, in the same order",
    )
    kind: str = _setting(AUTO, "kind of the engines; auto asks them", KINDS)
    host: str = _setting("127.0.0.1", "address to bind; loopback unless the network is trusted")
    port: int = _setting(8765, "TCP port to bind; 0 takes a free one")
    allowed_host: tuple[str, ...] = _setting(
        (), "a further host name that clients and web pages may use; once per name, * allows any"
    )
    index_token: str = _setting("", "Bearer token that the index API requires", secret=True)
    open_index: bool = _setting(
        False, "require no index token even if other machines can reach the server"
    )
    max_in_flight: int = _setting(0, "requests in flight per engine; 0: learn the limit")
    window: int = _setting(16, "waiting requests that are planned together", low=1)
    max_overtaken: int = _setting(64, "how many later requests may overtake one")
    max_wait_s: float = _setting(10.0, "how long a request may be overtaken, in seconds")
    max_plan_wait_s: float = _setting(
        2.0, "a request that waited this long for planning is forwarded as it came"
    )
    tenants: str = _setting("key", "what identifies a tenant on the proxy", TENANTS)
    upstream_key: str = _setting(
        "", "key for the engines, replacing the index token that clients send", secret=True
    )
    long_retention: bool = _setting(
        False,
        "ask clouds to keep prefixes longer (Anthropic an hour, OpenAI a day); writing them may "
        "cost more",
    )
    cache_salt: bool = _setting(False, "send each tenant's own cache_salt to the engine")
    salt_secret: str = _setting("", "mixed into every cache_salt", secret=True)
    mode: str = _setting("auto", "form of blocks to look for in messages; off: none", MODES)
    scope: str = _setting("all", "whose messages to search for blocks", SCOPES)
    reorder: bool = _setting(True, "reorder blocks")
    annotate: bool = _setting(True, "write the importance ranking after reordered blocks")
    deduplicate: bool = _setting(True, "replace repeated blocks with reference hints")
    pin_first: int = _setting(0, "keep this many leading blocks in place")
    max_shift: int = _setting(-1, "move no block by more ranks than this; -1: no limit", low=-1)
    min_gain_tokens: int = _setting(
        16, "keep the order if fewer tokens than this are known to recur"
    )
    displacement_cost: int = _setting(
        Bounds.displacement_cost, "gain in tokens that justifies moving the best block to the end"
    )
    anchor: str = _setting(
        Bounds.anchor, "when to put the best blocks next to the question", ANCHORS
    )
    anchor_blocks: int = _setting(Bounds.anchor_blocks, "how many blocks anchor applies to")
    max_blocks: int = _setting(
        2_000_000, "blocks in all indexes together, about 300 bytes each", low=1
    )
    window_size: int = _setting(4096, "recent contexts that planning considers", low=1)
    max_namespaces: int = _setting(
        1000, "namespaces per engine; beyond this, the least used are dropped", low=1
    )
    state: str = _setting("", "file that keeps how conversations were written over restarts")
    warm_keep_s: float = _setting(
        0.0, "how long to keep planned requests in memory, to warm a restarted engine; 0: none"
    )
    warm_tokens: int = _setting(200_000, "tokens to compute on an engine that comes back empty")
    max_body_bytes: int = _setting(64 << 20, "largest request body", low=1)
    max_bodies_bytes: int = _setting(
        512 << 20, "request bodies held at a time, including waiting ones; beyond, 503", low=1
    )
    max_requests: int = _setting(
        4096, "requests at a time, including waiting ones; beyond, 429", low=1
    )
    max_connections: int = _setting(
        8192, "client connections at a time, including idle ones; beyond, 503", low=1
    )
    connect_timeout_s: float = _setting(5.0, "time to connect to an engine")
    read_timeout_s: float = _setting(600.0, "longest silence of an engine; 0: no limit")
    client_timeout_s: float = _setting(
        60.0, "longest silence of a client in a request, or in reading; 0: no limit"
    )
    shutdown_timeout_s: float = _setting(30.0, "time for running requests to finish at shutdown")
    log_level: str = _setting("info", "lowest level that is logged", LOG_LEVELS)
    log_format: str = _setting("text", "format of the log lines", LOG_FORMATS)

    def __post_init__(self) -> None:
        for item in fields(self):
            _check(item, getattr(self, item.name))
        for name in _SENT_KEYS:
            object.__setattr__(self, name, checked_key(name, getattr(self, name)))
        if self.port > 65535:
            raise ValueError(f"port must be at most 65535, but is {self.port}")
        for url in self.engine:
            try:
                engine = base_address(url)
            except ValueError:
                text = f'engine must be like "http://127.0.0.1:30000", not {quoted(url)}'
                raise ValueError(text) from None
            if engine.port == self.port and _plain(engine.host) == _plain(self.host):
                raise ValueError(
                    f"engine {quoted(url)} is this server's own address: requests would go in "
                    "circles; change port or engine"
                )
        if self.upstream_key and not self.index_token:
            raise ValueError("upstream_key needs index_token: clients send that instead")
        if len(parse_addresses(self.kv_events)) > len(self.engine):
            raise ValueError("kv_events must be given once per engine, in the same order")


def load_settings(
    flags: Mapping[str, Any], environ: Mapping[str, str], path: str | None = None
) -> Settings:
    """Return the settings of flags (None: not given), environment and TOML file together.

    Raises:
        ValueError: a setting is unknown, of the wrong kind or out of range; it is named.
        OSError: the file cannot be read.
    """
    chosen = _read_file(Path(path)) if path else {}
    for item in fields(Settings):
        variable = ENVIRONMENT_PREFIX + item.name.upper()
        text = environ.get(variable, "")
        if text:
            chosen[item.name] = _cast(item, text, variable)
        if flags.get(item.name) is not None:
            chosen[item.name] = flags[item.name]
    try:
        return Settings(**chosen)
    except TypeError as error:
        raise ValueError(str(error)) from None


def _plain(host: str) -> str:
    return _LOOPBACK if host.lower() in _SAME_AS_LOOPBACK else host.lower()


def _read_file(path: Path) -> dict[str, Any]:
    tomllib = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    with path.open("rb") as file:
        try:
            content: dict[str, Any] = tomllib.load(file)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"{path} is not TOML: {error}") from None
    known = {item.name: item for item in fields(Settings)}
    for name in content:
        if name not in known:
            alike = get_close_matches(name.replace("-", "_").lower(), known, 1)
            known_ones = f"did you mean {alike[0]}?" if alike else f"known are {', '.join(known)}"
            raise ValueError(f"{path}: unknown setting {name!r}; {known_ones}")
    try:
        return {name: _from_toml(known[name], value) for name, value in content.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def _from_toml(item: Field[Any], value: Any) -> Any:
    if isinstance(item.default, tuple):
        found = (value,) if isinstance(value, str) else value
        if not isinstance(found, (list, tuple)) or not all(isinstance(one, str) for one in found):
            raise TypeError(f"{item.name} must be a text or a list of texts, not {value!r}")
        return tuple(found)
    if isinstance(item.default, float) and type(value) is int:
        return float(value)
    _check(item, value)
    return value


def _cast(item: Field[Any], text: str, variable: str) -> Any:
    """Return an environment variable's text as the kind of value that the setting takes."""
    default = item.default
    if isinstance(default, bool):
        if text.lower() in _TRUE + _FALSE:
            return text.lower() in _TRUE
        raise ValueError(f"{variable} must be one of {', '.join(_TRUE + _FALSE)}, not {text!r}")
    if isinstance(default, tuple):
        return tuple(text.replace(",", " ").split())
    if isinstance(default, str):
        return text
    try:
        return int(text) if isinstance(default, int) else float(text)
    except ValueError:
        raise ValueError(f"{variable} must be a number, not {text!r}") from None


def _check(item: Field[Any], value: Any) -> None:
    name, given, kind = item.name, type(value), type(item.default)
    if given is not kind and not (kind is float and given is int):
        raise TypeError(f"{name} must be of type {kind.__name__}, not {given.__name__}")
    choices, low = item.metadata["choices"], item.metadata["low"]
    if choices and value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}")
    if kind in (int, float) and not value >= low:  # NaN is not
        raise ValueError(f"{name} must be at least {low}, but is {value}")
    if kind is float and value > _MAX_S:
        raise ValueError(f"{name} must be at most {_MAX_S:,}, but is {value}")
