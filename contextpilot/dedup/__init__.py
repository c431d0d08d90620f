"""Deduplication: whole blocks within a conversation, repeated runs of lines within a prompt."""
