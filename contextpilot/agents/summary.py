"""An agent's session in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from contextpilot.tables import percent


def summary_lines(session: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a session saved, and where its prompts left those that they continued.

    Args:
        session: as `Session.as_dict` returns it; with at least one request.
    """
    given, sent = session["given"], session["sent"]
    requests = session["requests"]
    yield (
        f"{requests} {_plural('request', requests)} of {session['program']}: "
        f"{given['chars']:,} characters written, {sent['chars']:,} sent "
        f"({_change(given['chars'], sent['chars'])}); in the longest prompt "
        f"{_change(given['longest_prompt_chars'], sent['longest_prompt_chars'])}"
    )
    if session["failed"]:
        yield f"{session['failed']} of them failed or got no answer"
    if session["counted"]:
        cached, prompt = session["cached_tokens"], session["prompt_tokens"]
        yield (
            f"the provider counted {prompt:,} prompt tokens, {cached:,} of them from its cache "
            f"({percent(cached / max(1, prompt))})"
        )
    else:
        yield "the provider reported no token counts"
    yield from _continuity(given, sent)


def _continuity(given: Mapping[str, Any], sent: Mapping[str, Any]) -> Iterator[str]:
    goes_on = given["continuing"] + given["broken"]
    if not goes_on:
        return
    yield (
        f"prompts that begin with the whole previous one: {given['continuing']} of {goes_on} as "
        f"written, {sent['continuing']} of {sent['continuing'] + sent['broken']} as sent"
    )
    if not given["broken"] and not sent["broken"]:
        return
    for one in given["breaks"] or sent["breaks"]:
        why = f" (it contains text that changes: {', '.join(one['volatile'])})"
        times = f"{one['count']} {_plural('time', one['count'])}"
        changed = why if one["volatile"] else ""
        yield f"the cache was lost from here on, {times}: {one['place']}{changed}"


def _change(before: int, after: int) -> str:
    ratio = 100 * (after - before) / before if before else 0.0
    return f"{ratio:+.1f} %" if round(ratio, 1) else "the same"


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"
