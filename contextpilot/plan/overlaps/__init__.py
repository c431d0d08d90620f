"""Weighted overlaps between sets of blocks: the one place where planning time goes."""
