"""What LMCache makes of planned prompts, on the CPU; run by test_stacks.py where LMCache is.

Its stores and the transfer of keys and values need a GPU: what stands here is which tokens it would
find, by its own token databases and its controller's registry.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from guides import run_blocks
from lmcache.v1.cache_controller.controllers.kv_controller import KVController
from lmcache.v1.cache_controller.message import (
    BatchedKVOperationMsg,
    KVOpEvent,
    LookupMsg,
    OpType,
)
from lmcache.v1.cache_controller.utils import RegistryTree
from lmcache.v1.config import LMCacheEngineConfig
from lmcache.v1.metadata import LMCacheMetadata
from lmcache.v1.token_database import ChunkedTokenDatabase, SegmentTokenDatabase
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

import lmcache_chunks

import contextpilot as cp
from contextpilot.integrations.lmcache import (
    SEPARATOR,
    blended_tokens,
    held_tokens,
    planning_options,
)

CHUNK = 256


def passage(number: int) -> str:
    chance = random.Random(number)
    return f"Passage {number}. " + " ".join(f"word{chance.randrange(50)}" for _ in range(40))


@pytest.fixture(scope="module", params=["begins", "does not begin"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folders of two tokenizers: one begins each text with a token of its own, one does not."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=800,
        special_tokens=["<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f" {passage(number)} Who? # #" for number in range(50)]
    raw.train_from_iterator(texts, trainer)
    if request.param == "begins":
        raw.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    folder = str(tmp_path_factory.mktemp("tokenizer"))
    PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>").save_pretrained(folder)
    return folder


def config(**changes: Any) -> LMCacheEngineConfig:
    return LMCacheEngineConfig.from_defaults(chunk_size=CHUNK, **changes)


def metadata(model: str = "m") -> LMCacheMetadata:
    return LMCacheMetadata(model, 1, 1, 0, 0, torch.float16, (1, 2, CHUNK, 1, 8))


def keys(database: Any, tokens: list[int]) -> list[tuple[int, int, int]]:
    return list(database.process_tokens(tokens=torch.tensor(tokens), make_key=False))


def test_of_a_shared_prefix_whole_chunks_are_found() -> None:
    database = ChunkedTokenDatabase(config(), metadata())
    one, other = list(range(1000)), [*range(700), *[9] * 300]
    shared = zip(keys(database, one), keys(database, other), strict=False)
    assert sum(a == b for a, b in shared) == 700 // CHUNK == 2


def test_options_suit_the_configuration() -> None:
    assert planning_options(config()) == {"min_gain_tokens": CHUNK}
    assert planning_options(config(enable_blending=True)) == {"reorder": False}
    cp.ContextPilot(**planning_options(config()))


def test_of_planned_prompts_more_than_twice_as_many_chunks_are_found() -> None:
    given, planned = lmcache_chunks.compare()
    assert planned > 2 * given > 0


def test_blending_finds_each_block_wherever_it_stands(model: str) -> None:
    database = SegmentTokenDatabase(config(enable_blending=True), metadata(model))
    encode = AutoTokenizer.from_pretrained(model).encode
    texts = [passage(n) for n in range(4)]

    def segments(order: list[int], question: str) -> list[int]:
        written = [texts[n] for n in order]
        prompt = blended_tokens(encode, "Answer from these passages.", written, question)
        return [key for *_, key in keys(database, prompt)]

    head, *blocks, question = segments([0, 1, 2, 3], "Who?")
    assert len({head, *blocks, question}) == 6
    other_head, *moved, other_question = segments([2, 0, 3], "Where?")
    assert other_head == head
    assert other_question != question
    assert moved == [blocks[2], blocks[0], blocks[3]]


def test_a_separator_that_is_written_as_text_is_not_found(model: str) -> None:
    """Which is why `blended_tokens` returns tokens."""
    database = SegmentTokenDatabase(config(enable_blending=True), metadata(model))
    encode = AutoTokenizer.from_pretrained(model).encode
    joined = encode(SEPARATOR.join(["Answer.", passage(1), passage(2), "Who?"]))
    assert len(keys(database, joined)) == 1


def test_a_separator_of_one_token_is_refused(model: str) -> None:
    encode = AutoTokenizer.from_pretrained(model).encode
    with pytest.raises(ValueError, match="choose a longer blend_special_str"):
        blended_tokens(lambda text, **_: encode("#", add_special_tokens=False), "", [], "", "#")


@pytest.fixture
def controller() -> Iterator[tuple[KVController, str]]:
    """LMCache's own controller of keys, behind the route of its API."""
    registry = RegistryTree()
    registry.register_worker("one", 0, "127.0.0.1", 1, None, None, time.time())
    kept = KVController(registry)

    class Api(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            found = asyncio.run(kept.lookup(LookupMsg(event_id="e", tokens=body["tokens"])))
            self.send_response(200 if self.path == "/lookup" else 404)
            self.end_headers()
            answer = {"event_id": found.event_id, "layout_info": found.layout_info}
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield kept, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_the_controller_tells_what_the_host_still_holds(
    controller: tuple[KVController, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    kept, url = controller
    prompt = list(range(700))
    chunks = [key for *_, key in kept.token_database.process_tokens(prompt, make_key=False)]
    place = {"instance_id": "one", "worker_id": 0, "location": "LocalCPUBackend"}

    def tell(kind: OpType, numbers: range, first: int) -> None:
        events = [KVOpEvent(kind, chunks[n], first + at) for at, n in enumerate(numbers)]
        asyncio.run(
            kept.handle_batched_kv_operations(BatchedKVOperationMsg(**place, operations=events))
        )

    assert held_tokens(url, prompt) == {}
    tell(OpType.ADMIT, range(2), 0)
    assert held_tokens(url, prompt) == {"one": ("LocalCPUBackend", 2 * CHUNK)}
    tell(OpType.EVICT, range(1, 2), 2)
    assert held_tokens(url, prompt) == {"one": ("LocalCPUBackend", CHUNK)}


def test_the_guides_code_runs() -> None:
    run_blocks("lmcache.md")
