"""Small real images, without an image library."""

from __future__ import annotations

import struct
import zlib


def png(width: int, height: int, color: int = 0) -> bytes:
    """Return a PNG of one colour, of which there are 2**24."""
    row = b"\0" + color.to_bytes(3, "big") * width
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(row * height)), (b"IEND", b""))
    packed = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)
