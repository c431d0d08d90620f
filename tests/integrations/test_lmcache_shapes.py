"""LMCache's side of a prompt without LMCache: options, separators, an absent controller."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest
import requests

from contextpilot.integrations.lmcache import blended_tokens, held_tokens, planning_options


def encode(text: str, add_special_tokens: bool = True) -> list[int]:
    """One token a character, behind one that begins the text."""
    return [0] * add_special_tokens + [ord(character) for character in text]


def test_the_separator_stands_between_all_parts_and_only_the_head_begins_a_text() -> None:
    between = [ord(character) for character in " # # "]
    expected = [0, ord("h"), *between, ord("a"), *between, ord("b"), *between, ord("t")]
    assert blended_tokens(encode, "h", ["a", "b"], "t") == expected


def test_a_separator_of_which_nothing_is_left_is_refused() -> None:
    with pytest.raises(ValueError, match="choose a longer blend_special_str"):
        blended_tokens(encode, "h", ["a"], "t", separator="")


@pytest.mark.parametrize(
    ("blending", "options"), [(True, {"reorder": False}), (False, {"min_gain_tokens": 64})]
)
def test_options_follow_the_configuration(blending: bool, options: dict[str, object]) -> None:
    config = SimpleNamespace(chunk_size=64, enable_blending=blending)
    assert planning_options(config) == options


def test_nobody_waits_for_a_controller_that_says_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(requests.RequestException):
            held_tokens(url, [1, 2], timeout_s=0.2)
