"""llama-server with the shim that tells the index what its slots hold.

CONTEXTPILOT_INDEX_URL=http://127.0.0.1:8765 contextpilot-llama-server -m model.gguf --port 8080
"""

from __future__ import annotations

from contextpilot.llama_server.launcher import LlamaServer, launch, main

__all__ = ["LlamaServer", "launch", "main"]
