"""Whose fault it is when no connection comes about: the engine's, or our own."""

from __future__ import annotations

import errno
import re

_OURS = frozenset(
    (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EAGAIN, errno.EADDRNOTAVAIL)
)
_NUMBER = re.compile(r"\[Errno (\d+)\]")


def is_ours(error: OSError) -> bool:
    """Return whether this process is short of something: descriptors, memory, local ports."""
    return not _OURS.isdisjoint(_numbers(error))


def is_refused(error: OSError) -> bool:
    """Return whether nothing listens at the engine's address, or its backlog is full."""
    return isinstance(error, ConnectionRefusedError) or errno.ECONNREFUSED in _numbers(error)


def _numbers(error: OSError) -> set[int]:
    """Return the system's numbers; of several addresses' errors asyncio keeps only the texts."""
    if error.errno is not None:
        return {error.errno}
    return {int(number) for number in _NUMBER.findall(str(error))}
