"""The corpus: prompts and tool results of every shape, read from the files in `data`.

A case is a list of items written by a template. `render` writes it for any choice of items, so
that a case can be sent after a session that held the same items in another order.

    [[case]]
    name = "open-webui"            # unique
    kind = "must_find"             # must_stay, must_find, explicit
    why = "xml"                    # what makes it so, for the table
    shape = "Open WebUI, RAG"      # the public template or tool that it follows
    head, each, sep, tail          # the text: head, each item, what stands between, tail
    as = "user"                    # where it stands: user, system, tool, parts, tool_parts
    ask = "..."                    # the user's message, where the text is not the user's

Many questions of the same templates stand in one file: see `asked.toml`.

Templates name fields of an item (`$text`, `$title`, ...; `$jtext` is the same as JSON), its place
(`$n` from 1, `$n0` from 0), fields of one item (`$title_2`) and `$question`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from string import Template
from typing import Any, NamedTuple

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DATA = Path(__file__).parent / "data"
KINDS = ("must_stay", "must_find", "explicit")
_NAMES = ("Ines Vogt", "Paul Adeyemi", "Mara Lindqvist", "Tom Okada", "Rosa Brandt", "Jan Peeters")


class Item(NamedTuple):
    """One document, row, step ... of a case; `number` is its place in the pool, not in a prompt."""

    number: int
    title: str
    text: str

    def fields(self, place: int) -> dict[str, str]:
        """Return what templates may name, for the item at this place of a prompt."""
        number = self.number
        slug = "-".join(word for word in self.title.lower().split() if word.isalnum()) or "item"
        plain = {
            "text": self.text,
            "title": self.title,
            "slug": slug,
            "url": f"https://{slug.split('-')[0]}.example/{slug}",
            "path": f"notes/{slug}.md",
            "author": _NAMES[number % len(_NAMES)],
            "date": f"2025-0{1 + number % 9}-1{number % 10}",
            "time": f"{8 + number:02d}:{(number * 17) % 60:02d}:0{number % 10}",
            "score": f"{0.93 - 0.07 * number:.2f}",
            "id": f"kb-{(number * 7919 + 4021) % 9973:04d}",
            "uuid": f"{(number * 2654435761 + 97) % 2**32:08x}",
            "num": str(3 + (number * 37 + 11) % 89),
        }
        encoded = {f"j{name}": json.dumps(value) for name, value in plain.items()}
        return {**plain, **encoded, "n": str(place + 1), "n0": str(place)}


@dataclass(frozen=True)
class Case:
    """One labelled prompt; see the module for its fields."""

    family: str
    name: str
    kind: str
    why: str
    shape: str
    items: Sequence[Item]
    question: str
    spec: Mapping[str, Any] = field(repr=False)
    language: str = "en"

    @property
    def api(self) -> str:
        """The API spoken: as the case says, else one of three by its name."""
        turn = sum(map(ord, self.name)) % 4
        given = ("chat", "chat", "messages", "responses")[turn]
        return str(self.spec.get("api", "chat" if self.kind == "explicit" else given))

    @property
    def count(self) -> int:
        """How many items a request holds."""
        return int(self.spec.get("n", min(5, len(self.items))))

    @property
    def given(self) -> Sequence[Item]:
        """The items of the request that is judged."""
        return self.items[: self.count]

    @property
    def expected(self) -> int:
        """How many blocks are to be found, at least: an open list may keep its last in place."""
        is_open = self.why.startswith(("numbered", "labelled"))
        return int(self.spec.get("found", self.count - is_open))

    def render(self, items: Sequence[Item]) -> dict[str, Any]:
        """Return the body of a request that holds these items."""
        from corpus_shapes import body_of

        return body_of(self, items)

    def wholes(self, items: Sequence[Item]) -> list[str]:
        """Return each item as its template writes it."""
        each = str(self.spec["each"])
        return [fill(each, item.fields(place)) for place, item in enumerate(items)]

    def filled(self, name: str, items: Sequence[Item], default: str = "") -> str:
        """Return another template of the case, filled."""
        return self.told(str(self.spec.get(name, default)), items)

    def told(self, template: str, items: Sequence[Item]) -> str:
        """Return a template filled with what a prompt of these items knows."""
        known = {"question": self.question, "jquestion": json.dumps(self.question)}
        known["count"] = str(len(items))
        for place, item in enumerate(items):
            known |= {f"{key}_{place + 1}": value for key, value in item.fields(place).items()}
        return fill(template, known)

    def text(self, items: Sequence[Item]) -> str:
        """Return the text of the items, with what stands around them."""
        sep = str(self.spec.get("sep", "\n"))
        body = sep.join(self.wholes(items))
        text = self.filled("head", items) + body + self.filled("tail", items)
        nest = self.spec.get("nest")
        return text if nest is None else fill(str(nest), {"whole": json.dumps(text)})


def fill(template: str, known: Mapping[str, str]) -> str:
    """Return a template with the names that are known filled in."""
    return Template(template).safe_substitute(known)


@cache
def pools() -> dict[str, Any]:
    """Return the pools of items."""
    return tomllib.loads((DATA / "pools.toml").read_text(encoding="utf-8"))


def load(folder: Path = DATA) -> list[Case]:
    """Return all cases, by file and in order."""
    files = sorted(path for path in folder.glob("*.toml") if path.stem != "pools")
    return [case for path in files for case in _read(path)]


def _read(path: Path) -> Iterator[Case]:
    read = tomllib.loads(path.read_text(encoding="utf-8"))
    for asked in read.get("asked", ()):
        yield from _asked(path.stem, asked, read["template"], read["pools"])
    for spec in read.get("case", ()):
        asks = spec.get("asks")
        if asks is None:
            yield _case(path.stem, spec["name"], spec, spec.get("language", "en"))
            continue
        for language, ask in asks.items():
            filled = {**spec, "question": ask, "language": language}
            if language in pools() and "items" not in spec:
                filled["pool"] = language
            yield _case(path.stem, f"{spec['name']}-{language}", filled, language[:2])


def _asked(
    family: str, asked: Mapping[str, Any], templates: Sequence[Mapping[str, Any]], pools: Any
) -> Iterator[Case]:
    """Yield a case for each question, in one template after another."""
    for number, question in enumerate(asked["questions"]):
        template = templates[(number + len(asked["name"])) % len(templates)]
        name = f"{asked['name']}-{number}"
        own = {"items": pools[asked["pool"]]["items"], "question": question, "kind": asked["kind"]}
        yield _case(family, name, {**template, **own}, "en")


def _case(family: str, name: str, spec: Mapping[str, Any], language: str) -> Case:
    pool = pools()[spec.get("pool", "news")]
    own = spec.get("items")
    rows = [("", text) if isinstance(text, str) else text for text in own or pool["items"]]
    items = [Item(number, title, text) for number, (title, text) in enumerate(rows)]
    question = spec.get("question") or ("" if own else pool["question"])
    why, shape = spec["why"], spec["shape"]
    return Case(family, name, spec["kind"], why, shape, items, question, spec, language)
