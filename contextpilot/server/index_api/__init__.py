"""The index API: planning, the engines' events, and what is known, over HTTP."""
