"""Feeds what strangers send to the rooms that read it, guided by the lines that it reaches.

    python scripts/fuzz.py TARGET [--seconds 1200] [--corpus FOLDER] [--seed 1]

TARGET: extraction (with deduplication), splice, sync, http_requests, http_answers. Begins with the
kept seeds (tests/fuzz/seeds), which the tests replay. What fails is written to the corpus folder
as `crash-...`; make a seed of it once it is mended. Needs atheris: pip install atheris
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import time
from pathlib import Path

from machine import machine_line

TESTS = Path(__file__).parents[1] / "tests"
SEEDS = TESTS / "fuzz" / "seeds"
ROOMS = ["contextpilot", "uvicorn.protocols"]
WORDS = {
    "sync": (
        '"version": 3 "engine": "epoch": "seq": 0 1 2 "events": [ ] { } "event": "cached" "slot" '
        '"truncated" "unfollowed" "cleared" "request": "r1" "r2" "tokens": 8 16 "points": [[0,8]] '
        '"snapshot": true false "more": "sparse": "dropped": "kind": "llamacpp" "copied" "saved" '
        '"loaded" "slot": "to": "keep": "copy": "prompt_tokens": "block_size": 9007199254740993'
    ),
    "http": (
        "GET POST HEAD / HTTP/1.1 HTTP/1.0 200 204 304 100 101 Host: Content-Length: chunked "
        "Transfer-Encoding: Connection: close keep-alive Upgrade: Expect: 100-continue \r\n\r\n "
        "0\r\n\r\n 1\r\n Trailer: identity"
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("target", choices=sorted(seed.name for seed in SEEDS.iterdir()))
    parser.add_argument("--seconds", type=int, default=1200)
    parser.add_argument("--corpus", type=Path, help="kept between runs; default: a new folder")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    import atheris

    sys.path[:0] = [str(TESTS / "fuzz"), str(TESTS / "prompt")]
    with atheris.instrument_imports(include=ROOMS):
        from fuzz_targets import TARGETS
    corpus = args.corpus or Path(tempfile.mkdtemp(prefix="contextpilot-fuzz-"))
    corpus.mkdir(parents=True, exist_ok=True)
    print(machine_line("contextpilot", "atheris", "uvicorn", "httptools"), flush=True)
    print(f"{args.target}: {args.seconds} s from {time.strftime('%H:%M')}, corpus {corpus}")
    sys.stdout.flush()
    dictionary = corpus.parent / f"{corpus.name}.dict"
    dictionary.write_text("".join(map(entry, words_of(args.target))))
    options = [
        f"-max_total_time={args.seconds}",
        f"-seed={args.seed}",
        f"-dict={dictionary}",
        f"-artifact_prefix={corpus}/",
        "-max_len=4096",
        "-timeout=20",
        "-rss_limit_mb=3000",
        "-print_final_stats=1",
    ]
    folders = [str(corpus), str(SEEDS / args.target)]
    atheris.Setup([sys.argv[0], *options, *folders], TARGETS[args.target])
    atheris.Fuzz()


def words_of(target: str) -> list[str]:
    """Return what the fuzzer may put in as a whole."""
    from hard_texts import FRAGMENTS

    if target.startswith("http"):
        return WORDS["http"].split(" ")
    known = WORDS.get(target)
    return known.split() if known else [*FRAGMENTS, '"role":', '"content":', "\x1e"]


def entry(word: str) -> str:
    """Return a word as a line of libFuzzer's dictionary."""
    escaped = "".join(
        chr(byte) if re.match(rb"[ !#-\[\]-~]", bytes([byte])) else f"\\x{byte:02x}"
        for byte in word.encode()[:60]
    )
    return f'"{escaped}"\n'


if __name__ == "__main__":
    import plainly

    plainly.run(main)
