"""A tiny random model that reads images, for vLLM: LLaVA's form, 64 tokens an image.

A configuration beside the tiny Llama's tokenizer (tiny_model.py), which gets one token more; the
weights stay with the engine (`--load-format dummy`). vLLM's code for such models imports
torchvision, whose wheels are built for GPUs: one is put into a folder of its own, with the names of
its operators.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from environments import SetupError, engines_dir, locked
from tiny_model import CHAT_TEMPLATE, ensure_model

PIXELS, PATCH = 112, 14
IMAGE_TOKENS = (PIXELS // PATCH) ** 2
IMAGE = "<image>"
_PART = "{% if part['type'] == 'image' %}" + IMAGE + "{% else %}{{ part['text'] }}{% endif %}"
_PARTS = "{% for part in message['content'] %}" + _PART + "{% endfor %}"
_CONTENT = "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
TEMPLATE = CHAT_TEMPLATE.replace("{{ message['content'] }}", f"{_CONTENT}{_PARTS}{{% endif %}}")

_VISION: dict[str, Any] = {
    "model_type": "clip_vision_model",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 1,
    "image_size": PIXELS,
    "patch_size": PATCH,
    "projection_dim": 64,
}
_READER: dict[str, Any] = {
    "image_processor_type": "CLIPImageProcessor",
    "processor_class": "LlavaProcessor",
    "size": {"shortest_edge": PIXELS},
    "crop_size": {"height": PIXELS, "width": PIXELS},
    "do_resize": True,
    "do_center_crop": True,
    "do_rescale": True,
    "do_normalize": True,
    "do_convert_rgb": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
_PROCESSOR: dict[str, Any] = {
    "processor_class": "LlavaProcessor",
    "patch_size": PATCH,
    "num_additional_image_tokens": 1,
    "vision_feature_select_strategy": "default",
    "image_token": IMAGE,
}


TORCHVISION = "torchvision==0.28.0"
"""That of torch 2.13."""
_OPERATORS = """import torch

for _name in ("nms", "qnms"):  # of its library, which is for GPUs
    _form = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    torch.library.define(f"torchvision::{_name}", _form)
"""


def ensure_torchvision(python: Path) -> Path:
    """The folder with torchvision, for PYTHONPATH; installed when absent."""
    recipe = hashlib.sha256(f"{TORCHVISION} {_OPERATORS}".encode()).hexdigest()[:8]
    folder = engines_dir() / f"torchvision-{recipe}"
    with locked("torchvision"):
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            pip = [str(python), "-m", "pip", "install", "-q", "--no-deps", "--target", str(partial)]
            done = subprocess.run([*pip, TORCHVISION], capture_output=True, text=True, check=False)
            if done.returncode:
                raise SetupError(f"installing {TORCHVISION} failed:\n{done.stderr[-2000:]}")
            package = partial / "torchvision" / "__init__.py"
            package.write_text(_OPERATORS + package.read_text())
            os.replace(partial, folder)
    return folder


def ensure_vision(python: Path) -> Path:
    """The folder of the model, made when absent; `python` is that of an engine."""
    tiny = ensure_model(python)
    recipe = hashlib.sha256(Path(__file__).read_bytes() + tiny.name.encode()).hexdigest()[:8]
    folder = engines_dir() / "models" / f"vision-{recipe}"
    with locked("models"):
        if not folder.exists():
            partial = folder.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            _write(tiny, partial)
            os.replace(partial, folder)
    return folder


def _write(tiny: Path, folder: Path) -> None:
    text = json.loads((tiny / "config.json").read_text())
    tokenizer = json.loads((tiny / "tokenizer.json").read_text())
    settings = json.loads((tiny / "tokenizer_config.json").read_text())
    number = text["vocab_size"]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokenizer["added_tokens"].append({"id": number, "content": IMAGE, "special": True, **plain})
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": number,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "text_config": {**text, "vocab_size": number + 1},
        "vision_config": _VISION,
        "torch_dtype": "bfloat16",
    }
    files = {
        "config.json": config,
        "tokenizer.json": tokenizer,
        "tokenizer_config.json": {**settings, "chat_template": TEMPLATE},
        "preprocessor_config.json": _READER,
        "processor_config.json": _PROCESSOR,
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=1))
