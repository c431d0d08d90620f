"""The demo's corpus: docstrings of the standard library.

Sources are parsed, never imported, so that no module's side effects run.
"""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder

from contextpilot.commands.bm25 import Bm25Index

MODULES = """
argparse ast asyncio.base_events asyncio.locks asyncio.queues asyncio.streams asyncio.subprocess
asyncio.tasks asyncio.timeouts bz2 cmd codecs collections concurrent.futures._base
concurrent.futures.process concurrent.futures.thread configparser contextlib copy csv dataclasses
datetime _pydatetime _pydecimal decimal difflib email.message email.generator enum fileinput
fractions ftplib functools gettext glob gzip hashlib heapq html.parser http.client http.cookiejar
http.cookies http.server imaplib inspect ipaddress json json.decoder json.encoder locale logging
logging.config logging.handlers lzma mailbox mimetypes multiprocessing.connection
multiprocessing.context multiprocessing.managers multiprocessing.pool
multiprocessing.shared_memory netrc operator optparse os pathlib pdb pickle pickletools platform
plistlib poplib pprint queue random sched secrets selectors shelve shlex shutil smtplib socket
socketserver sqlite3.dbapi2 sqlite3.dump ssl statistics string subprocess tarfile tempfile
textwrap threading timeit tokenize traceback types typing unittest.case unittest.loader
unittest.mock unittest.runner unittest.suite urllib.error urllib.parse urllib.request uuid
warnings wave weakref xml.dom.minidom xml.etree.ElementTree zipfile zoneinfo._zoneinfo
"""
TOP_K = 15

_NAMED = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_DOCUMENTED = (ast.Module, *_NAMED)
_MIN_CHARS = 60
_MAX_CHARS = 1_600


def passages() -> list[str]:
    """Return the docstrings of the standard library, each under its qualified name."""
    found = dict.fromkeys(text for module in MODULES.split() for text in _passages_of(module))
    return list(found)


def retrieve(texts: list[str], asked: list[str], top_k: int = TOP_K) -> list[list[int]]:
    """Return for each question the positions of the passages that match best, best first."""
    index = Bm25Index(texts)
    return [index.search(question, top_k) for question in asked]


def _passages_of(module: str) -> Iterator[str]:
    source = _source_of(module)
    if source is None:
        return
    public = module.removeprefix("_py")
    stack: list[tuple[str, ast.AST]] = [(public, ast.parse(source))]
    while stack:
        name, node = stack.pop()
        if isinstance(node, _DOCUMENTED):
            yield from _split(name, ast.get_docstring(node) or "")
        stack.extend(
            (f"{name}.{child.name}", child)
            for child in reversed(list(ast.iter_child_nodes(node)))
            if isinstance(child, _NAMED) and not child.name.startswith("_")
        )


def _split(name: str, docstring: str) -> Iterator[str]:
    """Cut a docstring at paragraphs into passages of bounded length."""
    passage = ""
    for paragraph in docstring.split("\n\n"):
        if passage and len(passage) + len(paragraph) > _MAX_CHARS:
            yield f"{name}\n{passage}"
            passage = ""
        passage += ("\n\n" if passage else "") + paragraph
    if len(passage) >= _MIN_CHARS:
        yield f"{name}\n{passage}"


def _source_of(module: str) -> str | None:
    """Return a module's source; None where this Python does not have it."""
    path: Sequence[str] = [sysconfig.get_path("stdlib")]
    *packages, name = module.split(".")
    for package in packages:
        spec = PathFinder.find_spec(package, path)
        if spec is None or spec.submodule_search_locations is None:
            return None
        path = spec.submodule_search_locations
    spec = PathFinder.find_spec(name, path)
    get_source = getattr(spec.loader, "get_source", None) if spec is not None else None
    source: str | None = get_source(name) if get_source is not None else None
    return source
