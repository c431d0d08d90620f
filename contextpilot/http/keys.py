"""Keys on their way into a header."""

from __future__ import annotations


def checked_key(name: str, key: str) -> str:
    """Return a key without the blanks around it, as the end of a line of the file it came from.

    Args:
        name: where it was given, for the error, which does not show the key.

    Raises:
        ValueError: no header can hold it.
    """
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError(f"{name} must be one line of printable ASCII")
    return key
