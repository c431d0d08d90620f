"""Who tells what an engine holds, each translated into events of requests."""
