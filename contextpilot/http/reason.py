"""Why nothing answers, in few words."""

from __future__ import annotations

import os
import re
import socket
import ssl

_NUMBER = re.compile(r"\[Errno (\d+)\]")


def reason(error: OSError) -> str:
    """Return the system's words without numbers and addresses; "" where there are none."""
    if isinstance(error, socket.gaierror):
        return "unknown host"
    if isinstance(error, ssl.SSLError):
        return f"no TLS: {error.strerror or error}"
    # of several addresses' errors asyncio keeps only the texts
    numbers = [error.errno] if error.errno else map(int, _NUMBER.findall(str(error)))
    return " or ".join(dict.fromkeys(os.strerror(one).lower() for one in numbers)) or str(error)
