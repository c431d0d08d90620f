"""The events that vLLM and SGLang publish of their caches, as a source: nothing runs in the engine.

the engine's socket → `subscriber` (in order, nothing missing) → `wire` (decoded) → `chains`
(what is held, of which requests) → `feed` (what changed, as messages) → the receiver
"""
