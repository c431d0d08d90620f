"""Tiny random models of families whose layers are not all full attention.

Each is a configuration beside the tiny Llama's tokenizer (tiny_model.py); the weights stay with the
engine (`--load-format dummy`), drawn widely enough that outputs differ from prompt to prompt.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from environments import engines_dir, locked
from tiny_model import ensure_model

WINDOW = 128
CHUNK = 256

_THREE_AND_FULL = ["sliding_attention"] * 3 + ["full_attention"]
_STATES = {"linear_attention": 3, "full_attention": 1}

_COMMON: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-5,
    "initializer_range": 0.2,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 1,
}


def _family(architecture: str, model_type: str, **more: Any) -> dict[str, Any]:
    return {**_COMMON, "architectures": [architecture], "model_type": model_type, **more}


FAMILIES: dict[str, dict[str, Any]] = {
    "llama": _family("LlamaForCausalLM", "llama", rope_theta=5e5, hidden_act="silu"),
    "mistral": _family(
        "MistralForCausalLM", "mistral", sliding_window=WINDOW, rope_theta=1e6, hidden_act="silu"
    ),
    "gemma3": _family(
        "Gemma3ForCausalLM",
        "gemma3_text",
        sliding_window=WINDOW,
        sliding_window_pattern=4,
        layer_types=_THREE_AND_FULL,
        query_pre_attn_scalar=64,
        hidden_activation="gelu_pytorch_tanh",
        rope_theta=1e6,
        rope_local_base_freq=1e4,
        attention_bias=False,
    ),
    "gptoss": _family(
        "GptOssForCausalLM",
        "gpt_oss",
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "full_attention"] * 2,
        num_local_experts=4,
        num_experts_per_tok=2,
        experts_per_token=2,
        hidden_act="silu",
        swiglu_limit=7.0,
        rope_theta=150000,
        rope_scaling={
            "rope_type": "yarn",
            "factor": 8.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "original_max_position_embeddings": 4096,
            "truncate": False,
        },
        attention_bias=True,
        tie_word_embeddings=False,
    ),
    "llama4": _family(
        "Llama4ForCausalLM",
        "llama4_text",
        attention_chunk_size=CHUNK,
        layer_types=["chunked_attention"] * 3 + ["full_attention"],
        no_rope_layers=[1, 1, 1, 0],
        no_rope_layer_interval=4,
        intermediate_size_mlp=256,
        num_local_experts=2,
        num_experts_per_tok=1,
        interleave_moe_layer_step=2,
        moe_layers=[1, 3],
        use_qk_norm=True,
        hidden_act="silu",
        rope_theta=5e5,
        attention_bias=False,
        attn_temperature_tuning=False,
        floor_scale=8192,
        attn_scale=0.1,
    ),
    "qwen3next": _family(
        "Qwen3NextForCausalLM",
        "qwen3_next",
        layer_types=[kind for kind, count in _STATES.items() for _ in range(count)],
        full_attention_interval=4,
        linear_conv_kernel_dim=4,
        linear_key_head_dim=64,
        linear_value_head_dim=64,
        linear_num_key_heads=1,
        linear_num_value_heads=2,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=128,
        shared_expert_intermediate_size=128,
        decoder_sparse_step=1,
        norm_topk_prob=True,
        mlp_only_layers=[],
        partial_rotary_factor=0.25,
        rope_theta=1e7,
        hidden_act="silu",
        attention_bias=False,
        output_router_logits=False,
    ),
    "lfm2": _family(
        "Lfm2ForCausalLM",
        "lfm2",
        layer_types=["conv", "conv", "conv", "full_attention"],
        full_attn_idxs=[3],
        conv_L_cache=3,
        conv_bias=False,
        conv_dim=128,
        norm_eps=1e-5,
        block_ff_dim=256,
        block_dim=128,
        block_auto_adjust_ff_dim=False,
        block_multiple_of=64,
        block_ffn_dim_multiplier=1.0,
        rope_theta=1e6,
    ),
}
"""By name; "llama" is full attention alone, to compare with."""

SGLANG_FAMILIES: dict[str, dict[str, Any]] = {
    **FAMILIES,
    "llama4": {**FAMILIES["llama4"], "interleave_moe_layer_step": 100},
    "mellum": _family(
        "MellumForCausalLM",
        "mellum",
        sliding_window=WINDOW,
        layer_types=_THREE_AND_FULL,
        mlp_layer_types=["dense"] * 4,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=128,
        norm_topk_prob=True,
        hidden_act="silu",
        attention_bias=False,
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            "full_attention": {"rope_type": "default", "rope_theta": 1e6},
        },
    ),
}
"""Of Gemma-3 and Mistral SGLang keeps the whole cache; its windows are those of newer families. It
has no kernel for Llama 4's experts on a CPU."""


def ensure_family(python: Path, name: str) -> Path:
    """The folder of a family's model, made when absent; `python` is that of an engine."""
    return _ensure(python, name, SGLANG_FAMILIES[name])


def ensure_drafts(python: Path) -> dict[str, Any]:
    """vLLM's `speculative_config` for "llama": EAGLE, with a head of random weights."""
    head = _ensure(python, "llama-head", {**FAMILIES["llama"], "num_hidden_layers": 1})
    return {"method": "eagle", "model": str(head), "num_speculative_tokens": 2}


def _ensure(python: Path, name: str, family: dict[str, Any]) -> Path:
    tiny = ensure_model(python)
    vocabulary = json.loads((tiny / "config.json").read_text())["vocab_size"]
    config = json.dumps({**family, "vocab_size": vocabulary}, indent=1)
    recipe = hashlib.sha256(f"{tiny.name} {config}".encode()).hexdigest()[:8]
    folder = engines_dir() / "models" / f"{name}-{recipe}"
    with locked("models"):
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            for file in ("tokenizer.json", "tokenizer_config.json"):
                shutil.copy(tiny / file, partial)
            (partial / "config.json").write_text(config)
            os.replace(partial, folder)
    return folder
