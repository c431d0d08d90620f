"""Which chunks LMCache finds in planned prompts: python examples/lmcache_chunks.py

Needs LMCache installed, but no GPU, since it only compares LMCache's own chunk keys. Prints the
share of the prompts' chunks that an earlier prompt had, in the order given and planned, for
questions over docstrings; a token is a word.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import random
import re
import shutil
import subprocess
import tarfile
import zipfile
import zlib

import torch
from lmcache.v1.config import LMCacheEngineConfig
from lmcache.v1.metadata import LMCacheMetadata
from lmcache.v1.token_database import ChunkedTokenDatabase

import contextpilot as cp
from contextpilot.integrations.lmcache import planning_options

MODULES = (argparse, inspect, logging, random, re, shutil, subprocess, tarfile, zipfile)
DOCUMENTS = [
    f"{module.__name__}.{name}: {' '.join(text.split())}"
    for module in MODULES
    for name in getattr(module, "__all__", dir(module))
    if (text := inspect.getdoc(getattr(module, name))) and len(text) > 150
]
ASKED = [text.split(". ")[0] for text in random.Random(1).choices(DOCUMENTS, k=60)]


def retrieve(question: str, count: int = 10) -> list[str]:
    """Return the documents that share most words with the question, best first."""
    asked = set(question.lower().split())
    return sorted(DOCUMENTS, key=lambda text: -len(asked & set(text.lower().split())))[:count]


def words(text: str) -> list[int]:
    """Return a number for each word and mark, which stands for a tokenizer."""
    return [zlib.crc32(word.encode()) for word in re.findall(r"\w+|[^\w\s]", text)]


def share_found(pilot: cp.ContextPilot, database: ChunkedTokenDatabase) -> float:
    """Ask every question; return the share of chunks that were known by then."""
    known: set[int] = set()
    found = total = 0
    for question in ASKED:
        (message,) = pilot.optimize(retrieve(question), question)
        tokens = torch.tensor(words(message["content"]))
        keys = [key for *_, key in database.process_tokens(tokens=tokens, make_key=False)]
        found, total = found + sum(key in known for key in keys), total + len(keys)
        known.update(keys)
    return found / total


def compare() -> tuple[float, float]:
    """Print and return the share in the order given, and planned."""
    config = LMCacheEngineConfig.from_defaults()
    shape = (1, 2, config.chunk_size, 1, 8)
    database = ChunkedTokenDatabase(config, LMCacheMetadata("m", 1, 1, 0, 0, torch.half, shape))
    planner = cp.ContextPilot(tokenizer=lambda text: len(words(text)), **planning_options(config))
    given = share_found(cp.ContextPilot(reorder=False), database)
    planned = share_found(planner, database)
    print(f"{len(ASKED)} questions, chunks of {config.chunk_size} tokens")
    print(f"  in the order given {given:6.1%} found")
    print(f"  planned            {planned:6.1%} found")
    return given, planned


if __name__ == "__main__":
    compare()
