"""How agents are told where the model is: variables that many read, and what single ones take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import NamedTuple

from contextpilot.http.address import base_address, quoted

OPENAI, ANTHROPIC = "openai", "anthropic"
CLOUDS = {OPENAI: "https://api.openai.com", ANTHROPIC: "https://api.anthropic.com"}
"""Where requests go when nobody says otherwise."""

_VARIABLES = {
    "OPENAI_BASE_URL": (OPENAI, "/v1"),
    "OPENAI_API_BASE": (OPENAI, "/v1"),
    "ANTHROPIC_BASE_URL": (ANTHROPIC, ""),
    "ANTHROPIC_API_BASE": (ANTHROPIC, ""),
}
"""API and path by variable; the second of each pair is LiteLLM's, which aider and others read."""

_OPENCODE = "OPENCODE_CONFIG_CONTENT"
_CONFIGURED = {
    "openclaw": "models.providers.NAME.baseUrl in its openclaw.json",
    "hermes": "model.base_url in its config.yaml (provider openai-api reads the variable)",
}


class Launch(NamedTuple):
    """A command line, and the environment that it is started in."""

    command: list[str]
    environment: dict[str, str]


def upstreams(environment: Mapping[str, str]) -> dict[str, str]:
    """Return where the requests of each API went so far: as the variables say, or the cloud.

    Raises ValueError, which names the variable, for what is no http(s) address.
    """
    found = dict(CLOUDS)
    for name, (api, _) in reversed(_VARIABLES.items()):
        url = environment.get(name, "").rstrip("/")
        if url:
            try:
                base_address(url)
            except ValueError:
                raise ValueError(
                    f'{name} must be like "{CLOUDS[api]}", not {quoted(url)}'
                ) from None
            found[api] = url.removesuffix("/v1")
    return found


def launch(
    command: Sequence[str], environment: Mapping[str, str], urls: Mapping[str, str]
) -> Launch:
    """Return how an agent is started so that its requests go to `urls`.

    Args:
        command: the agent and its arguments, as typed.
        urls: base URLs by API, without /v1.
    """
    told = dict(environment)
    for name, (api, path) in _VARIABLES.items():
        told[name] = urls[api] + path
    program, *arguments = command
    name = program_name(program)
    if name == "codex" and not any("base_url" in one for one in arguments):
        arguments = ["-c", f'openai_base_url="{urls[OPENAI]}/v1"', *arguments]
    if name == "opencode" and _OPENCODE not in told:
        providers = {api: {"options": {"baseURL": f"{urls[api]}/v1"}} for api in CLOUDS}
        told[_OPENCODE] = json.dumps({"provider": providers})
    for variable in ("NO_PROXY", "no_proxy"):  # the way to us leads through no other proxy
        told[variable] = ",".join(filter(None, (told.get(variable), "127.0.0.1")))
    return Launch([program, *arguments], told)


def where_to_put(program: str, urls: Mapping[str, str]) -> str:
    """Return what to do for an agent that sent nothing through its proxy."""
    place = _CONFIGURED.get(program_name(program), "its own configuration")
    return (
        f"it may take its base URL from {place}: choose a --port, and put "
        f"{urls[OPENAI]}/v1 there (for Anthropic's API {urls[ANTHROPIC]}) with that port"
    )


def program_name(program: str) -> str:
    """Return a program's name without its folder and ending."""
    return PurePath(program).name.removesuffix(".exe").removesuffix(".cmd")
