"""The code of a guide, run where its package is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def run_blocks(page: str, instead: Mapping[str, str] = {}) -> None:
    """Run every block of Python on a page of the docs, each on its own.

    instead: what to write in place of addresses on the page.
    """
    blocks = re.findall(
        r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL
    )
    assert blocks
    for number, block in enumerate(blocks, 1):
        for written, own in instead.items():
            block = block.replace(written, own)
        exec(compile(block, f"{page}, block {number}", "exec"), {})
