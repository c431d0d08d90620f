"""A tiny random LoRA for the tiny Llama; runs in vLLM's environment, which has torch."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

RANK = 8


def ensure_adapter(model: Path) -> Path:
    """The folder of an adapter beside its model's, made when absent."""
    folder = model.with_name(f"{model.name}-adapter")
    if not folder.exists():
        partial = folder.with_suffix(f".{os.getpid()}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        _write(partial, json.loads((model / "config.json").read_text()))
        partial.replace(folder)
    return folder


def _write(folder: Path, model: dict[str, int]) -> None:
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    size, wide = model["hidden_size"], model["num_attention_heads"] * model["head_dim"]
    tensors = {}
    for layer in range(model["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        tensors[f"{name}.lora_A.weight"] = torch.randn(RANK, size)
        tensors[f"{name}.lora_B.weight"] = torch.randn(wide, RANK)
    save_file(tensors, folder / "adapter_model.safetensors")
    settings = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "bias": "none", "r": RANK}
    settings |= {"lora_alpha": RANK, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
