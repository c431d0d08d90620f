"""A tiny random Llama and its tokenizer: enough for a real engine to serve on a CPU.

The weights stay with the engine (`--load-format dummy`), so a model is a folder of three JSON
files. The tokenizer is trained on the documentation strings of the standard library, which every
Python installation has, and is deterministic for one Python and one `tokenizers` version.
Training runs in an interpreter that has `tokenizers`: that of an engine's environment.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

VOCABULARY = 8000
HEAD = 64
SPECIAL = ("<s>", "</s>")
CHAT_TEMPLATE = (
    "{% for message in messages %}[{{ message['role'] }}]\n{{ message['content'] }}\n"
    "{% endfor %}[assistant]\n"
)


def standard_library_texts(limit: int = 400) -> Iterator[str]:
    """Documentation strings of the first `limit` top-level modules, in order of their names."""
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))[:limit]:
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        for node in ast.walk(tree):
            if isinstance(node, documented) and (text := ast.get_docstring(node)):
                yield text


def write_tokenizer(folder: Path) -> int:
    """Train a byte-level BPE tokenizer into `folder`; returns the number of its tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(standard_library_texts(), trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[1],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1))
    return tokenizer.get_vocab_size()


def model_config(hidden: int, layers: int, vocabulary: int) -> dict[str, object]:
    """A Llama configuration with heads of 64, half as many of them for keys and values."""
    heads = hidden // HEAD
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": hidden,
        "intermediate_size": 3 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 2),
        "head_dim": HEAD,
        "vocab_size": vocabulary,
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "bos_token_id": 0,
        "eos_token_id": 1,
    }


def write_model(folder: Path, hidden: int, layers: int) -> None:
    """Write tokenizer and configuration into `folder` (made here)."""
    if hidden % HEAD:
        raise ValueError(f"hidden must be a multiple of {HEAD}, got {hidden}")
    folder.mkdir(parents=True)
    config = model_config(hidden, layers, write_tokenizer(folder))
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def ensure_model(python: Path, hidden: int = 256, layers: int = 4) -> Path:
    """The folder of a model of this size, made with `python` when absent."""
    from environments import SetupError, engines_dir, locked

    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    folder = engines_dir() / "models" / f"tiny-h{hidden}-l{layers}-{recipe}"
    with locked("models"):
        if folder.exists():
            return folder
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        command = [python, __file__, str(partial), "--hidden", hidden, "--layers", layers]
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SetupError(f"tiny model: {python} {__file__} failed:\n{done.stderr[-2000:]}")
        os.replace(partial, folder)
    return folder


def main() -> int:
    """Write one model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder to create")
    parser.add_argument("--hidden", type=int, default=256, help="hidden size, a multiple of 64")
    parser.add_argument("--layers", type=int, default=4)
    arguments = parser.parse_args()
    write_model(arguments.folder, arguments.hidden, arguments.layers)
    return 0


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    import plainly

    plainly.run(main)
