"""Checks of the interpreter, the dependencies and the environment variables."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from collections.abc import Iterator, Mapping

import contextpilot
from contextpilot.commands.checks import packages
from contextpilot.commands.checks.check import Check, installed_version
from contextpilot.commands.checks.exchange import Place
from contextpilot.server.settings import load_settings
from contextpilot.server.variables import known_variables, told, unread

_MIN_PYTHON = (3, 10)
_PREFIX = "CONTEXTPILOT_"
_ENGINE = _PREFIX + "ENGINE"
_SECRETS = ("TOKEN", "KEY", "SECRET", "PASSWORD")


def check_python() -> Iterator[Check]:
    """Look at the interpreter and the platform."""
    found = f"{platform.python_implementation()} {platform.python_version()} at {sys.executable}"
    old = sys.version_info < _MIN_PYTHON
    yield Check("python", "fail" if old else "ok", found, "use Python 3.10 or newer" if old else "")
    yield Check("platform", "ok", platform.platform())


def check_dependencies() -> Iterator[Check]:
    """Look at ContextPilot itself and what it cannot do without."""
    installed = installed_version("contextpilot")
    detail = f"{contextpilot.__version__} at {os.path.dirname(contextpilot.__file__)}"
    if installed is None:
        fix = "pip install ."
        yield Check("contextpilot", "warn", f"{detail}, runs from a checkout, not installed", fix)
    elif installed != contextpilot.__version__:
        fix = "pip install --force-reinstall --no-deps . in a checkout"
        yield Check("contextpilot", "warn", f"{detail}, but {installed} is installed", fix)
    else:
        yield Check("contextpilot", "ok", detail)
    missing = packages.lacking()
    if missing:
        detail = f"{', '.join(missing)}: not installed; hooks need none of them, all else does"
        yield Check("packages", "warn", detail, f"pip install {' '.join(missing)}")
    for name in ("numpy", "scipy"):
        if name not in missing:
            yield _check_module(name, f"pip install {name}", required=True)


def check_extras() -> Iterator[Check]:
    """Look at the optional extras `plot`, `kv-events` and `gpu`."""
    yield _check_module("matplotlib", "pip install matplotlib", required=False)
    yield _check_module("zmq", "pip install pyzmq msgspec", required=False)
    yield _check_gpu()


def check_variables(environ: Mapping[str, str] = os.environ) -> Iterator[Check]:
    """Look at the CONTEXTPILOT_* variables in effect; secrets are not shown."""
    unknown = unread(environ)
    for name, meant in unknown:
        fix = f"rename it to {meant}, or unset it" if meant else f"unset {name}"
        yield Check(name, "warn", told(name, meant), fix)
    names = sorted(known_variables() & set(environ))
    if not names and not unknown:
        yield Check("environment", "absent", f"no {_PREFIX}* variable is set")
    for name in names:
        value = environ[name]
        if value and (name.endswith("_URL") or name == _ENGINE):
            yield _check_urls(name, value)
        elif any(word in name for word in _SECRETS):
            yield Check(name, "ok", f"set, {len(value)} characters")
        else:
            yield Check(name, "ok", value or "set, but empty")
    try:
        load_settings({}, environ)
    except ValueError as error:
        detail = f"contextpilot serve would not start here: {error}"
        yield Check("settings", "warn", detail, "correct it, or unset it")


def _check_module(name: str, fix: str, *, required: bool) -> Check:
    found = installed_version(name)
    if found is None and not required:
        return Check(name, "absent", "not installed (optional)", fix)
    try:
        importlib.import_module(name)
    except Exception as error:
        return Check(name, "fail", f"{found or 'not installed'}: {error}", fix)
    return Check(name, "ok", found or "version unknown")


def _check_gpu() -> Check:
    found = installed_version("cupy-cuda12x", "cupy-cuda13x", "cupy-cuda11x", "cupy")
    fix = "pip install cupy-cuda12x"
    if found is None:
        return Check("gpu", "absent", "cupy is not installed (optional): plans run on the CPU", fix)
    try:
        import cupy

        count = int(cupy.cuda.runtime.getDeviceCount())
        name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
        usable = int(cupy.arange(3).sum()) == 3
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        detail = f"cupy {found} is installed, but no GPU can be used: {lines[0]}"
        return Check("gpu", "warn", detail, "check the driver with nvidia-smi")
    return Check("gpu", "ok" if usable else "warn", f"cupy {found}, {count} device(s), {name}")


def _check_urls(name: str, value: str) -> Check:
    try:
        places = [Place.at(url) for url in value.replace(",", " ").split()]
    except ValueError as error:
        return Check(name, "fail", str(error), f"export {name}=http://127.0.0.1:8765")
    return Check(name, "ok", ", ".join(place.shown for place in places))
