"""Inert torchvision: a text model imports the names but never calls them.

Every submodule and attribute resolves to an empty module or class. `InterpolationMode` is real,
because transformers reads its members at import.
"""

import enum
import importlib
import importlib.abc
import importlib.machinery
import sys
import types

__version__ = "0.0.0+stub"

InterpolationMode = enum.Enum(
    "InterpolationMode",
    {
        "NEAREST": "nearest",
        "NEAREST_EXACT": "nearest-exact",
        "BILINEAR": "bilinear",
        "BICUBIC": "bicubic",
        "BOX": "box",
        "HAMMING": "hamming",
        "LANCZOS": "lanczos",
    },
)


class InertModule(types.ModuleType):
    """A package whose attributes are empty classes."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return InterpolationMode if name == "InterpolationMode" else type(name, (), {})


class InertFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Answers every import below `torchvision` with an inert module."""

    def find_spec(self, fullname, *_):
        if not fullname.startswith(__name__ + "."):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec):
        return InertModule(spec.name)

    def exec_module(self, module):
        pass


sys.meta_path.insert(0, InertFinder())


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return importlib.import_module(f"{__name__}.{name}")
