"""Whether a prompt speaks of its documents by place or number, or wants answers in their order.

Then they stay: a question for "document 3" or "the last one" counts them as they were given. What
only shows how to cite ("like [1]") does not count. A text is read word by word, once: a rule is
tried at the words that may begin it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple, TypeAlias

from contextpilot.prompt.extract.far_scripts import (
    FAR_COMPARED,
    FAR_EACH,
    FAR_NUMBERED,
    FAR_ORDERS,
    FAR_POSITIONS,
)
from contextpilot.prompt.extract.ordinals import (
    ABBREVIATIONS,
    COMPARING,
    EACH,
    FOREIGN_ORDINALS,
    NO_PLACES,
    NOUN_PATTERN,
    NUMBER_WORDS,
    NUMBERED_NOUNS,
    ORDERS,
    ORDINAL,
    POSITIONS,
    TIMES,
)
from contextpilot.prompt.extract.question import read_question
from contextpilot.prompt.extract.vocabulary import DOCUMENT_TAGS
from contextpilot.whose import whose

_Rules: TypeAlias = tuple[tuple[bool, re.Pattern[str]], ...]
_FLAGS = re.IGNORECASE
_STEM_CHARS = 4


def _by_word() -> dict[str, _Rules]:
    """Return by word the rules that it may begin: whether they ask for an order, the pattern."""
    found: dict[str, _Rules] = {}
    for asks_order, rules in ((True, ORDERS), (False, POSITIONS)):
        for words, pattern in rules:
            rule = (asks_order, re.compile(pattern, _FLAGS))
            for word in words.split():
                found[word] = (*found.get(word, ()), rule)
    return found


def _by_stem(words: str) -> dict[str, tuple[str, ...]]:
    """Return stems by their first letters; one that ends with a full stop is a whole word."""
    found: dict[str, tuple[str, ...]] = {}
    for word in words.split():
        head = word[:_STEM_CHARS].rstrip(".")
        found[head] = (*found.get(head, ()), word)
    return found


_WORD = re.compile(r"[^\W_]+")
_RULES = _by_word()
_FOREIGN_PLACE: _Rules = ((False, re.compile(rf"\w+\b(?! (?:{NO_PLACES}))", _FLAGS)),)
_FOREIGN = _by_stem(FOREIGN_ORDINALS)
_NOUNS, _COMPARING = frozenset(NUMBERED_NOUNS.split()), frozenset(COMPARING.split())
_FAR_SCRIPT = re.compile("[\u0590-\u0dff\u0e00-\u0eff\u2460-\u24ff\u3000-\ud7ff]")
_UNKNOWN_SCRIPT = re.compile("[\u0530-\u058f\u0a00-\u0b7f\u0c00-\u0dff\u0e80-\u137f\u1780-\u17ff]")
"""Scripts whose ordinals we do not know: in doubt, a question in one counts the documents."""
_FAR_POSITION, _FAR_ORDER = re.compile(FAR_POSITIONS), re.compile(FAR_ORDERS)
_FAR_NUMBERS = re.compile(f"{FAR_NUMBERED}|{FAR_COMPARED}")
_BRACKET = re.compile(r"\[(\d{1,4})\](?!\()|(?:#|№ ?)(\d{1,3})\b")
_ABBREVIATED, _ABBREVIATED_AFTER = (
    frozenset(ABBREVIATIONS.split()),
    re.compile(r"(?:\.|[°º]\.?)[ \t]{0,2}(\d{1,3})\b(?![.,:]\d|[%°])"),
)
_THEM = re.compile(
    rf"\b(?:(?<!cite )(?<!use )(?<!without )(?<!question with )(?:them\b(?! in(?:side)? <)|"
    rf"(?<!using )(?<!only )(?<!based on )(?<!given )(?:these|those)\b(?! are the most "
    rf"relevant)(?= {NOUN_PATTERN}\b| "
    rf"(?:into|in|from|with|by|to|as|and|or|up|out|of|is|are|do|does|that|which|who|build|relate|connect|link|"
    rf"lead|fit|belong|differ|{NUMBER_WORDS}|\d+)\b|"
    r"[^\w ]|$))|"
    r"each(?! (?:other|claim|sentence|statement|fact|answer)\b)\b|"
    rf"every (?:one\b|single\b|{NOUN_PATTERN}\b)|"
    rf"(?:{EACH})\b(?! (?:{TIMES})\b)|ones\b|"
    r"at the (?:start|beginning|top)\b[^\n]{0,60} at the (?:end|bottom)\b|"
    r"the one (?:on|about|that|with|from|where|which|of)\b|"
    r"they (?:form|are(?! (?:not )?(?:relevant|helpful|useful))|come|stand|follow|tell|make)\b|"
    r"their (?:order|weight|sequence)\b|"
    r"(?:this|these) (?:is|are|was|were) (?:a|an|the|my|our|parts? of|from) (?:\w+ ){0,2}"
    r"(?:conversation|dialogue|chat|thread|transcript|story|novel|log|diary|interview|script|"
    r"timeline|procedure|recipe|sequence|series)\b)|"
    rf"{FAR_EACH}",
    _FLAGS,
)
"""A question that speaks of the documents, and not of what stands in them."""
_ANSWERS = re.compile(r"^[ \t]*1[ \t]*[:.)=][ \t]*\S[^\n]{0,12}\n[ \t]*2[ \t]*[:.)=]", re.MULTILINE)
_NUMBERED_ANSWER = re.compile(
    r"[\"'](?:doc(?:ument)?|passage|source|snippet|chunk|result|context)s?"
    r"(?:_?(?:index|indices|number|no|num|idx))?[\"']\s*:\s*[\[<]?\s*"
    r"(?:int(?:eger)?|number|index|\d)\b|"
    r"\b(?:count(?:s|ed|ing)?|number(?:ed|ing)|index(?:ed|es)?|starting) (?:from|at|with) "
    r"(?:0|1|zero|one)\b|"
    r"\b(?:0|1|zero|one)-(?:based|indexed)\b",
    _FLAGS,
)
"""An answer in JSON that names documents by their place."""
_RANKED = re.compile(r"\[\d{1,4}\] ?> ?\[\d{1,4}\]")
_NUMBER_AFTER = re.compile(
    r"[ \t]{0,3}(?:#|n[o°º]\.?[ \t]{0,2}|nr\.?[ \t]{0,2}|number[ \t])?\[?(\d{1,4})\b"
    r"(?![.,:]\d|[%°]| ?(?:%|years?|pages?|percent|million|words))",
    _FLAGS,
)
_SPELLED_AFTER = re.compile(
    rf"(?: number)? (?:(?i:{NUMBER_WORDS})\b(?! (?:of|or more|years?|times))|"
    r"(?:I{1,3}|IV|VI{0,3}|IX|X)\b)"
)
_COMPARED_AFTER = re.compile(r"[^\d\n]{0,24}?(\d{1,3})\D{1,9}?(\d{1,3})(?!\d)")
_NUMBER_WORDS = NUMBER_WORDS.split("|")
_WANTED = re.compile(
    rf"\b(?:give|return|write|output|print|list|name|make|provide|produce|suggest|find|with|of)"
    rf"(?: (?:me|us|exactly|a list of|an array of)){{0,2}} ({NUMBER_WORDS}|\d{{1,3}}) "
    r"(?:\w+ )?(?:titles?|headings?|labels?|scores?|numbers?|names?|keywords?|summaries|answers|"
    r"sentences|lines|words|tags|categories|translations|entries|items|rows|verdicts|booleans|"
    r"values|captions|headlines|bullets|lists|haikus?|poems|paragraphs|sections|questions|stories|"
    r"tweets|posts|points|emojis?|digits|letters|bits|stars|grades|ticks|descriptions|versions)\b",
    _FLAGS,
)
_OPENING = re.compile(r"<([A-Za-z]\w{0,40})[ >]")
_NUMBERED_QUESTION = re.compile(r"^[ \t]{0,4}\d{1,2}[.)][ \t][^\n?]{2,200}\?[ \t]*$", re.MULTILINE)
_BESIDE = re.compile(
    r"^[ \t*]{0,4}(?:labels?|answers?|scores?|titles?|names|categories|ratings?|verdicts?|files|"
    r"sources|documents|urls|links|authors|dates)[ \t*]{0,4}:([^\n]{0,2000}[,;|][^\n]*)$",
    _FLAGS | re.MULTILINE,
)
_ROW = re.compile(r"^[ \t]{0,4}\|[^\n]{0,400}[\w)][^\n]{0,400}\|[ \t]*$", re.MULTILINE)
_NAMED_FILE = re.compile(
    r"^[ \t]{0,4}(?:\d{1,2}[.):]|[-*•])[ \t]+[^\n]{0,80}(?:\.(?:pdf|md|txt|docx?|html?|csv)\b|://)",
    re.MULTILINE,
)
_LETTERED = re.compile(r"(?<!\w)\(([a-h])\)")
_CONFLICT = re.compile(
    r"contradic|conflict|disagree|clash|inconsisten|widerspr[eüu]ch|contradi|contraddi|"
    r"tegenspr|tegenstrijd|motsäg|motsig|modsig|противореч|суперечат|sprzeczn|çeliş|冲突|矛盾|衝突|"
    r"모순|충돌|تعارض|تناقض|ristiriit|ellentmond|odporuj|rozpor|bertentangan|mâu thuẫn|αντιφά|סותר",
    re.IGNORECASE,
)
_PRECEDENCE = re.compile(
    r"\b(?:prefer|privileg|supersed|overrid|outrank|outweigh|prevail|preceden|priorit|in doubt|"
    r"(?:more|most|less|least) (?:reliable|trustworthy|authoritative|weight)|"
    r"vorrang|bevorzug|im zweifel|préfér|prefier|l['’]emport|en cas de doute|prevalec|"
    r"en caso de duda|in caso di dubbio|preced(?:ono|enza)|preval|prior[ei]t|voorrang|"
    r"bij twijfel|företräde|pierwszeńst|öncelik)|приоритет|предпочт|优先|優先|为准|우선|أولوية",
    re.IGNORECASE,
)
"""What says that one document counts more than another."""
_SENTENCE_END = re.compile(r"[.!?。！？\n]")
_NO_PRECEDENCE = frozenset(("side", "sides", "each", "every", "list", "lists", "count", "numbers"))
"""What else is wanted of documents that contradict each other: "tell both sides"."""
_CONFLICT_CHARS, _MAX_CONFLICTS = 120, 8
_EXAMPLES = frozenset(
    ("like", "such as", "e g", "eg", "example", "format", "z b", "par exemple", "ejemplo", "for ex")
)
_CITING = frozenset(
    (
        *("form", "using", "use", "style", "notation", "with", "as", "cite", "citation"),
        *("citations", "wie", "comme", "como"),
    )
)
"""Before `[1]` alone: "with document 1" speaks of a document."""
_SHORT = re.compile(r"\((\d{1,2})\)|\b[dD](\d{1,2})\b")
_FEW_CHARS = 80
_FAR_EXAMPLES = ("如", "例")
_EXAMPLE_CHARS = 32
_CHAIN_CHARS = 6
_QUESTION_CHARS = 400
_EXAMPLE_SECTION = 240
_EXAMPLE_WORDS = ("example", "beispiel", "exemple", "ejemplo", "esempio", "例")
_MAX_ASKED_CHARS = 1 << 13
"""Longer texts around a list are no question: both ends are read."""


class Asks(NamedTuple):
    """What one text around the blocks asks for; `counts`: how many of something it wants."""

    position: bool
    order: bool
    numbers: frozenset[str]
    spelled: bool
    them: bool
    counts: frozenset[int] = frozenset()

    def reason(self, shown: Collection[str], size: int, *, after: bool) -> str:
        """Return the rule against moving blocks that show these numbers; "" if there is none.

        Args:
            size: how many blocks there are: as many titles or labels are one for each.
            after: the text stands after the blocks: what it calls "these" are they.
        """
        if self.order or size in self.counts:
            return "order-asked"
        if after and self.them:
            return "position-asked"
        if self.position:
            return "position-asked"
        return "number-asked" if self.spelled or not self.numbers.isdisjoint(shown) else ""


def read_asks(text: str) -> Asks:
    """Read a text that stands around blocks: a question, an instruction."""
    if len(text) > 2 * _MAX_ASKED_CHARS:
        text = f"{text[:_MAX_ASKED_CHARS]}\n{text[-_MAX_ASKED_CHARS:]}"
    return _read(whose(), text)


@lru_cache(maxsize=256)
def _read(_whose: str, text: str) -> Asks:
    position = spelled = False
    order = _RANKED.search(text) is not None or _NUMBERED_ANSWER.search(text) is not None
    numbers = {*_bracketed(text), *_in_few_words(text)}
    for match in _WORD.finditer(text):
        word = match[0].lower()
        for asks_order, pattern in _RULES.get(word) or _others(word):
            if not (order if asks_order else position) and pattern.match(text, match.start()):
                order, position = order or asks_order, position or not asks_order
        if word in _NOUNS:
            end = match.end()
            numbers.update(() if _shows(text, match.start()) else _after(_NUMBER_AFTER, text, end))
            spelled = spelled or _SPELLED_AFTER.match(text, end) is not None
        elif word in _COMPARING:
            numbers.update(_after(_COMPARED_AFTER, text, match.end()))
        elif word in _ABBREVIATED:
            numbers.update(_after(_ABBREVIATED_AFTER, text, match.end()))
    if not text.isascii() and _FAR_SCRIPT.search(text):
        position = position or _FAR_POSITION.search(text) is not None
        order = order or _FAR_ORDER.search(text) is not None
        numbers.update(_plain(n) for m in _FAR_NUMBERS.finditer(text) for n in m.groups() if n)
    if not text.isascii() and _UNKNOWN_SCRIPT.search(text[-_QUESTION_CHARS:]):
        position = True
    order = order or _ANSWERS.search(text) is not None or _tells_precedence(text)
    return Asks(
        position,
        order,
        frozenset(numbers),
        spelled,
        _THEM.search(text[-_QUESTION_CHARS:]) is not None,
        frozenset(_counts(text)),
    )


def _tells_precedence(text: str) -> bool:
    """Return whether a text says that a place decides which of several documents counts."""
    return any(
        not _NO_PRECEDENCE.issuperset(read_question(around).orders) for around in _weighing(text)
    )


def _weighing(text: str) -> Iterator[str]:
    """Yield where documents contradict each other, with what comes next; where one counts more."""
    for pattern in (_CONFLICT, _PRECEDENCE):
        for found in islice(pattern.finditer(text), _MAX_CONFLICTS):
            begin, end = found.start(), found.end() + _CONFLICT_CHARS
            before = _SENTENCE_END.split(text[max(0, begin - _CONFLICT_CHARS) : begin])[-1]
            after = text[found.end() : end]
            if pattern is _PRECEDENCE:
                after = _SENTENCE_END.split(after)[0]
            yield before + found[0] + after


def _counts(text: str) -> Iterator[int]:
    """Yield how many of something a text wants back or gives beside the blocks: six titles."""
    for match in _WANTED.finditer(text):
        word = match[1].lower()
        yield int(word) if word.isdigit() else _NUMBER_WORDS.index(word) + 1
    if "</" in text:
        beside = Counter(_OPENING.findall(text))
        yield from (times for name, times in beside.items() if name not in DOCUMENT_TAGS)
    yield len(_NUMBERED_QUESTION.findall(text))
    yield len(_ROW.findall(text)) - 1  # the line of headings
    yield len(_NAMED_FILE.findall(text))
    yield len(set(_LETTERED.findall(text)))
    for line in _BESIDE.findall(text):
        yield from (line.count(sign) + 1 for sign in ",;|")


def _in_few_words(text: str) -> Iterator[str]:
    """Yield the numbers of a short question that may be documents': (3), d2."""
    if len(text.strip()) < _FEW_CHARS:
        yield from (number for match in _SHORT.findall(text) for number in match if number)


def _plain(number: str) -> str:
    """Return a number of one character of another script in plain digits."""
    return str(int(unicodedata.numeric(number))) if len(number) == 1 else number


def _others(word: str) -> _Rules:
    """Return the rules for a word that is in no list: `3rd`, ordinals of other languages."""
    if word[0].isdigit():
        return _RULES[ORDINAL] if word[-1] in "tdh" else ()
    for stem in _FOREIGN.get(word[:_STEM_CHARS], ()):
        if word == stem[:-1] if stem.endswith(".") else word.startswith(stem):
            return _FOREIGN_PLACE
    return ()


def _after(pattern: re.Pattern[str], text: str, at: int) -> Sequence[str]:
    match = pattern.match(text, at)
    return match.groups() if match else ()


def _shows(text: str, start: int, more: frozenset[str] = frozenset()) -> bool:
    """Return whether the words before say that an example follows."""
    words = [word.lower() for word in _WORD.findall(text, max(0, start - _EXAMPLE_CHARS), start)]
    gap = text[max(0, start - 3) : start]
    if not words or "]" in gap:
        return False
    last = words[-1]
    known = _EXAMPLES | more
    return last in known or " ".join(words[-2:]) in known or last[-1] in _FAR_EXAMPLES


def _bracketed(text: str) -> Iterator[str]:
    """Yield the numbers in brackets that name a document, and do not show how to cite one."""
    example_end = -_CHAIN_CHARS - 1
    for mention in _BRACKET.finditer(text):
        start = mention.start()
        near = text[max(0, start - _EXAMPLE_SECTION) : start].lower()
        is_example = any(word in near for word in _EXAMPLE_WORDS)
        shows = _shows(text, start, _CITING) if mention[1] else _shows(text, start)
        if start - example_end <= _CHAIN_CHARS or is_example or shows:
            example_end = mention.end()
        else:
            yield mention[1] or mention[2]
