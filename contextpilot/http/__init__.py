"""All that speaks HTTP to others: a blocking client, a pooled one, a circuit; one rule for each."""

KEEP_ALIVE_S = 4.0
"""Idle connections are used so long: uvicorn, and so most engines, close them after 5 seconds."""
