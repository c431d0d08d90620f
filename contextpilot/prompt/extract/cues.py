"""Sentences and headings before a list: what announces retrieved documents, what a sequence."""

from __future__ import annotations

import re
from typing import NamedTuple

from contextpilot.prompt.extract.vocabulary import (
    CUE_ADJECTIVES,
    CUE_FOREIGN,
    CUE_HAN,
    CUE_NOUNS,
    SEQUENCE_NOUNS,
)

_FLAGS = re.IGNORECASE
_ABOUT = r"(?:\s+(?:from|for|about|that|which|related|retrieved|found|of|on|in|to|with|returned|"
r"by|is|are|"
_ABOUT += r"below|and|may)\b[^\n:]{0,80})?"
_NOUN = rf"(?:{CUE_ADJECTIVES}[ \t]+){{0,5}}{CUE_NOUNS}"
_HEADING = re.compile(
    rf"^[ \t]*(?:#{{1,6}}[ \t]+|\*\*|\[\[ ## |---|={{2,}}[ ]?|\[)?"
    rf"(?:here (?:are|is)[ \t]+|(?:below|these|following) (?:are|is)[ \t]+|i found[ \t]+|"
    rf"found[ \t]+)?"
    rf"(?:the[ \t]+)?(?:{_NOUN}{_ABOUT}|{CUE_FOREIGN}(?:[ \t]+\w+){{0,3}})[ \t]*"
    rf"(?: ## \]\]|\*\*|---|[ ]?={{2,}}|"
    rf"\])?(?:[ \t]*\([^()\n]{{1,24}}\))?[ \t]*[:：.]?(?:\*\*)?[ \t]*$",
    _FLAGS,
)
_SENTENCE = re.compile(
    rf"\b(?:us(?:e|ing)|cit(?:e|ing)|citations (?:to|from)|based|answers?|given|from|with|"
    rf"according to|"
    rf"refer(?:ring)? to|consult|consider|read|"
    rf"here (?:are|is)|(?:below|these|following) (?:are|is)|summary of|among|in|by|found|says?|"
    rf"got|yielded|brought|retrieving|returning|came back with|turned up|"
    rf"contained in)"
    rf"(?:[ \t]+(?:only|solely|just|exclusively|on|in|by|from|questions?|the|it|using|upon|"
    rf"some|help|of|"
    rf"a|any))*"
    rf"[ \t]+(?:{CUE_ADJECTIVES}[ \t]+){{0,5}}{CUE_NOUNS}\b|"
    rf"\b{CUE_NOUNS} (?:that (?:were|was) )?(?:found|retrieved|returned|provided|given|is|are) "
    rf"(?:by|below|from|for|in|is|as)\b|"
    rf"\bthe (?:search|retriever|knowledge base|vector store) (?:returned|found|gave)\b|"
    rf"\b(?:mit|nutze|verwende|aus|anhand|selon|avec|utilise[rz]?|[àa] partir|usa|usando|con|com|"
    rf"segundo|usando os|auf (?:der )?(?:grundlage|basis)|gestützt|appuy\w+|d['’]après|"
    rf"[àa] l['’]aide|en vous basant|bas[áa]ndo(?:te|se)|a partir|com base|in base|sulla base|"
    rf"op basis|aan de hand|use|utilize|utilice|utiliza|utilizza|"
    rf"usa i|met|gebruik|használ|используй\w*|на основе|по|użyj|"
    rf"na podstawie)\b[^\n.]{{0,30}}?{CUE_FOREIGN}|"
    rf"\b(?:documents?|sources) trouv[ée]s|gefundenen? (?:dokumente|quellen)|"
    rf"найденн\w+ документ\w*|{CUE_HAN}",
    _FLAGS,
)
_SEQUENCE = re.compile(
    rf"\b{SEQUENCE_NOUNS}\b|步骤|对话|聊天记录|逐字稿|手順|会話|字幕|단계|대화", _FLAGS
)
_ONE_TEXT = re.compile(
    r"\b(?:one (?:long|single|whole|continuous|running) (?:text|document|file|book|article)|"
    r"(?:cut|chopped|broken)(?: up)? into (?:passages|parts|pieces|chunks))\b",
    _FLAGS,
)
"""What says that passages, whatever they are called, are parts of one."""
_INTRODUCES = re.compile(r"[:：]\s*$|^#|\b(?:part of|following|here|below|current)\b", _FLAGS)
_FILE = re.compile(
    r"\b[\w\-]+\.(?:xml|json|jsonl|html?|ya?ml|toml|csv|tsv|rss|atom|svg|log|ini|conf|sql)\b|"
    r"^[ \t]*(?:\$|>>>|PS [A-Z]:[^\n]*>)[ \t]",
    re.IGNORECASE | re.MULTILINE,
)
_TOLD_THERE = re.compile(
    r"[ \t]*(?:#{1,6}[ \t]+|\*\*)[^\n]{0,40}\b(?:guidelines|rules|instructions|requirements|"
    r"principles|criteria|steps|tasks?)\b[^\n]{0,20}\n(?:[^\n]*\n)*[ \t]*(?:[-*•]|\d{1,2}[.)])[ \t]"
    r"[^\n]*[^\n:：\s][ \t]*\Z",
    _FLAGS,
)
"""Rules under a heading that names them: it announces no list that stands after them."""
_SHORT_INTRO = 60
_ADJACENT_CHARS = 300
_FAR_CHARS = 4000
_MAX_NOUNS = 12
_NOUN_WORD = re.compile(
    r"(?i:(?<=[ \t])(?:documents?|docs|passages?|snippets?|excerpts?|sources?|memor(?:y|ies)|"
    r"results?|"
    r"contexts?|evidence|references|articles|knowledge|information|chunks?|facts|texts?|"
    r"paragraphs?|"
    r"data|content|material|entries|files|code|pages?|retriever|store)\b)"
)


class Intro(NamedTuple):
    """What the text before a list says of it.

    Attributes:
        announced: the line or sentence right before it names retrieved documents.
        told: a sentence further up tells to use such documents.
        sequence: what is right before it names a sequence, and no documents.
        empty: nothing stands before it.
        file: what is right before it names a file of data, or a command that printed it.
    """

    announced: bool
    told: bool
    sequence: bool
    empty: bool
    file: bool = False


def read_intro(text: str, start: int, begin: int = 0) -> Intro:
    """Read what stands before a list that begins at `start`, down to `begin`."""
    near = text[max(begin, start - _ADJACENT_CHARS) : start].rstrip()
    last = _last_paragraph(near)
    if _TOLD_THERE.match(last):
        last = ""
    line = last.rsplit("\n", 1)[-1]
    far = text[max(begin, start - _FAR_CHARS) : start]
    announced = bool(_HEADING.match(line) or _SENTENCE.search(last))
    sequence = bool(_SEQUENCE.search(last)) and not _HEADING.match(line)
    sequence = sequence and (len(last) <= _SHORT_INTRO or _INTRODUCES.search(last) is not None)
    if sequence and announced:
        sequence = _names_sequence_first(last)
    sequence = sequence or _ONE_TEXT.search(near) is not None
    file = _FILE.search(last) is not None
    return Intro(announced, _tells(far), sequence, not far.strip(), file)


def tells(text: str) -> bool:
    """Return whether an instruction says that documents are to be used."""
    return _tells(text[:_FAR_CHARS])


def _tells(text: str) -> bool:
    """Return whether a text has such a sentence: it is looked for around the words for "
    "documents."""
    if not text.isascii():
        return _SENTENCE.search(text) is not None
    for number, noun in enumerate(_NOUN_WORD.finditer(text)):
        if number == _MAX_NOUNS:
            break
        if _SENTENCE.search(text, max(0, noun.start() - 90), noun.end() + 40):
            return True
    return False


def _last_paragraph(near: str) -> str:
    """Return the last paragraph; a rule or bare tag line counts with what stands before it."""
    lines = near.split("\n")
    while lines and (not lines[-1].strip() or _is_mark(lines[-1])):
        lines.pop()
    kept: list[str] = []
    while lines and lines[-1].strip() and not _is_mark(lines[-1]):
        kept.append(lines.pop())
    return "\n".join(reversed(kept))


def _is_mark(line: str) -> bool:
    """Return whether a line is a rule or one tag."""
    bare = line.strip()
    return not bare.strip("-=*_#`") or (bare.startswith("<") and bare.endswith(">"))


def _names_sequence_first(paragraph: str) -> bool:
    """Return whether the sentence that ends a paragraph names a sequence and no documents."""
    sentence = re.split(r"(?<=[.!?])\s+", paragraph)[-1]
    return bool(_SEQUENCE.search(sentence)) and not (
        _SENTENCE.search(sentence) or _HEADING.match(sentence)
    )
