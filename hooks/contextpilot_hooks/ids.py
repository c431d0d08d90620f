"""Request ids: `cp-` and 24 lowercase hex digits, recognisable inside whatever an engine adds.

vLLM turns the header `X-Request-Id: cp-<hex>` into `chatcmpl-cp-<hex>-a7f079c1`,
`0_cmpl-cp-<hex>-0-bece2282` and the like; SGLang takes the body field `rid` as it is.
"""

from __future__ import annotations

import re

REQUEST_ID = re.compile(r"cp-[0-9a-f]{24}(?![0-9a-f])")
_search = REQUEST_ID.search


def find_request_id(text: object) -> str | None:
    """The first request id inside `text`, or None. Thread-safe, about a microsecond."""
    if not isinstance(text, str):
        return None
    found = _search(text)
    return found.group() if found else None


def is_request_id(value: object) -> bool:
    """Whether `value` is a request id and nothing more."""
    return isinstance(value, str) and REQUEST_ID.fullmatch(value) is not None
