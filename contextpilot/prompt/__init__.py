"""From planned blocks to chat messages."""
