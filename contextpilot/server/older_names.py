"""What the reference implementation's API has and this one calls otherwise; errors say it."""

from __future__ import annotations

PATHS = {
    "/build": "POST /reorder",
    "/schedule": 'POST /reorder with "stateless": true',
    "/search": "POST /reorder, which also searches and learns",
    "/insert": "POST /reorder, which also searches and learns",
    "/metrics/ttft": "GET /metrics",
    "/metrics/ttft/reset": "GET /metrics, whose counters are never reset",
    "/cloud/stats": "GET /health and GET /stats",
}
_NOT_HERE = "it has no counterpart here: leave it out"
_CONVERSATIONS = "POST /deduplicate compares a context with its conversation_id"
FIELDS = {
    "alpha": _NOT_HERE,
    "use_gpu": _NOT_HERE,
    "linkage_method": _NOT_HERE,
    "initial_tokens_per_context": _NOT_HERE,
    "parent_request_ids": _CONVERSATIONS,
    "deduplicate": _CONVERSATIONS,
    "hint_template": _CONVERSATIONS,
    "context": "contexts",
    "docs": "contexts",
    "all_docs": "all_contexts",
    "all_queries": "queries",
}
