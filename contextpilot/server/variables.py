"""The environment variables that any part of ContextPilot reads, and those that none does."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches

from contextpilot.server.settings import ENVIRONMENT_PREFIX, Settings

_OTHERS = (
    "CONFIG",
    "ENGINE_ID",
    "ENGINE_KEY",
    "ENGINES_DIR",
    "HOOK_MAX_BLOCKS",
    "HOOK_MAX_REQUESTS",
    "HOOK_MAX_TOKENS",
    "INDEX_URL",
    "JUDGE_KEY",
    "LLAMA_RAM_BYTES",
    "MODEL",
    "PROGRESS",
    "REQUIRE_CROSS_COMPILER",
    "REQUIRE_ENGINES",
)
"""What is read elsewhere than in the server's settings; the last two by the tests."""
_OLDER = {
    "CLOUD_PROVIDER": "ENGINE",
    "DEDUP": "DEDUPLICATE",
    "INFER_API_URL": "ENGINE",
    "LLAMACPP_URL": "ENGINE",
}
"""What the reference implementation reads, and what stands for it here."""
_LIKENESS = 0.7
_PREFIX = re.compile(r"CONTE?XT?_?PILOT_")


def known_variables() -> set[str]:
    """Return the names of all variables that are read."""
    names = [*_OTHERS, *(item.name.upper() for item in fields(Settings))]
    return {ENVIRONMENT_PREFIX + name for name in names}


def unread(environ: Iterable[str]) -> list[tuple[str, str]]:
    """Return each variable that looks like ours but is read by nothing, and what may be meant.

    The second is "" where nothing is alike.
    """
    known = {name.removeprefix(ENVIRONMENT_PREFIX) for name in known_variables()}
    found = []
    for name in sorted(set(environ) - known_variables()):
        ours = _PREFIX.match(name.upper())
        if ours:
            bare = name.upper()[ours.end() :]
            alike = get_close_matches(bare, known, 1, _LIKENESS)
            meant = [_OLDER[bare]] if bare in _OLDER else alike
            found.append((name, ENVIRONMENT_PREFIX + meant[0] if meant else ""))
    return found


def told(name: str, meant: str) -> str:
    """Return one variable that nothing reads as a sentence."""
    return f"nothing reads {name}" + (f": did you mean {meant}?" if meant else "")
