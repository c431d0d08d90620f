"""The tiny random Llama as a GGUF file, for llama-server: same tokenizer, template and shape.

Runs in an interpreter that has `gguf`: that of llama.cpp's environment. Weights are drawn from a
seed, so the file is the same for one model folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SCALE = 0.02


def write_gguf(model: Path, target: Path) -> None:
    """Write the model of a folder made by `tiny_model.py` as a GGUF file."""
    import gguf

    config = json.loads((model / "config.json").read_text())
    writer = gguf.GGUFWriter(str(target), "llama")
    write_shape(writer, config)
    write_vocabulary(writer, model)
    write_weights(writer, config)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_shape(writer: Any, config: dict[str, Any]) -> None:
    """Add what llama.cpp has to know about the network."""
    import gguf

    writer.add_name("tiny")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)


def write_vocabulary(writer: Any, model: Path) -> None:
    """Add the byte-level BPE tokenizer and the chat template."""
    import gguf

    bpe = json.loads((model / "tokenizer.json").read_text())["model"]
    settings = json.loads((model / "tokenizer_config.json").read_text())
    tokens = sorted(bpe["vocab"], key=bpe["vocab"].__getitem__)
    special = {settings["bos_token"], settings["eos_token"]}
    kinds = [gguf.TokenType.CONTROL if t in special else gguf.TokenType.NORMAL for t in tokens]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in bpe["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokens.index(settings["bos_token"]))
    writer.add_eos_token_id(tokens.index(settings["eos_token"]))
    writer.add_add_bos_token(False)
    writer.add_chat_template(settings["chat_template"])


def write_weights(writer: Any, config: dict[str, Any]) -> None:
    """Add random float16 matrices and unit norms (float32)."""
    import numpy as np

    random = np.random.default_rng(0)
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    queries = config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    matrices = {
        "attn_q": (queries, hidden),
        "attn_k": (keys, hidden),
        "attn_v": (keys, hidden),
        "attn_output": (hidden, queries),
        "ffn_gate": (inner, hidden),
        "ffn_up": (inner, hidden),
        "ffn_down": (hidden, inner),
    }

    def add(name: str, shape: tuple[int, int]) -> None:
        values = random.standard_normal(shape, dtype=np.float32) * SCALE
        writer.add_tensor(f"{name}.weight", values.astype(np.float16))

    add("token_embd", (config["vocab_size"], hidden))
    writer.add_tensor("output_norm.weight", np.ones(hidden, np.float32))
    for layer in range(config["num_hidden_layers"]):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(hidden, np.float32))
        for name, shape in matrices.items():
            add(f"blk.{layer}.{name}", shape)


def ensure_gguf(python: Path, model: Path) -> Path:
    """The GGUF file of a model folder, made with `python` when absent."""
    from environments import SetupError, locked

    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    target = model.with_name(f"{model.name}-{recipe}.gguf")
    with locked("models"):
        if target.exists():
            return target
        partial = target.with_suffix(".partial")
        command = [str(python), __file__, str(model), str(partial)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SetupError(f"tiny GGUF: {' '.join(command)} failed:\n{done.stderr[-2000:]}")
        os.replace(partial, target)
    return target


def main() -> int:
    """Write one file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="folder made by tiny_model.py")
    parser.add_argument("target", type=Path, help="GGUF file to write")
    arguments = parser.parse_args()
    write_gguf(arguments.model, arguments.target)
    return 0


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    import plainly

    plainly.run(main)
