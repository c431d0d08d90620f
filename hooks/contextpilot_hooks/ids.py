"""Request ids: `cp-` and 24 lowercase hex digits, recognisable inside whatever an engine adds.

vLLM turns the header `X-Request-Id: cp-<hex>` into `chatcmpl-cp-<hex>-a7f079c1`,
`0_cmpl-cp-<hex>-0-bece2282` and the like; SGLang takes the body field `rid` as it is.
"""

from __future__ import annotations

import re

REQUEST_ID = re.compile(r"cp-[0-9a-f]{24}(?![0-9a-f])")
_match_last = re.compile(rf".*({REQUEST_ID.pattern})", re.DOTALL).match


def find_request_id(text: object) -> str | None:
    """The last request id inside `text`, or None. Thread-safe, about a microsecond.

    A proxy appends its own to what its client sent, which may be one of ours, too; it planned last.
    """
    if not isinstance(text, str):
        return None
    found = _match_last(text)
    return found[1] if found else None


def is_request_id(value: object) -> bool:
    """Whether `value` is a request id and nothing more."""
    return isinstance(value, str) and REQUEST_ID.fullmatch(value) is not None
