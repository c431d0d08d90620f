"""Whole numbers for argparse."""

from __future__ import annotations

import argparse


def positive(text: str) -> int:
    """Return a whole number from 1 on, for argparse."""
    number = natural(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def natural(text: str) -> int:
    """Return a whole number from 0 on, for argparse."""
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 0")
    return int(text)
