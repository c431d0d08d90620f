"""Planners: the order of blocks in each prompt, and the order in which a batch runs."""
