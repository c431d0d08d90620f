"""A file that is read once arrives as it is, whatever another session read before."""

from __future__ import annotations

import pytest
from corpus_run import proxy
from files_read import arrives_changed, files, readable

pytestmark = pytest.mark.slow

FILES = 120


def test_files_that_are_read_once() -> None:
    texts = {path: text for path in files(FILES) if (text := readable(path)) is not None}
    assert len(texts) > FILES // 2
    with proxy() as client:
        changed = [path for path, text in texts.items() if arrives_changed(path, text, client)]
    assert changed == []
