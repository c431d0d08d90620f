"""Whether a question surely asks for what stands in documents, wherever each of them stands.

Ways to speak of order never end, so evidence is asked for the other way round. A question of facts
shares words with a document that answers it, and speaks of no place, direction or sequence, unless
a document itself speaks so of the same thing ("the first president").
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from contextpilot.prompt.extract.order_words import (
    FAR_ORDER_WORDS,
    META_WORDS,
    ORDER_WORDS,
    PLAIN_PHRASES,
    PLAIN_WORDS,
)
from contextpilot.prompt.extract.vocabulary import QUESTION_LABELS, QUESTION_MARKS
from contextpilot.whose import whose

_STEM_CHARS = 3
_MIN_SHARE, _MIN_META_SHARE = 1 / 6, 1 / 3
_SURE_WORDS, _SURE_SHARE = 3, 0.6
"""So much of a question in one document, and what it says of order is of its subject."""
_NEAR_CHARS = 32
_MAX_WORDS = 48
_MAX_QUESTION, _MAX_SPOKEN = 600, 160
_MAX_SEARCHED = 1 << 18
_MAX_HITS = 64

_UNSPACED_CHARS = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff"
_MARKED = "\u0300-\u036f\u0591-\u05c7\u064b-\u065f\u0900-\u0dff"
_WORD = re.compile(
    rf"[{_UNSPACED_CHARS}]+|[^\W_{_UNSPACED_CHARS}](?:[{_MARKED}]|[^\W_{_UNSPACED_CHARS}])*"
)
"""Words of scripts without spaces are runs; marks of vowels belong to the letters before them."""
_WHOLE = frozenset(word[:-1] for word in ORDER_WORDS.split() if word.endswith("."))
_STEMS: dict[str, tuple[str, ...]] = {}
for _stem in ORDER_WORDS.split():
    if not _stem.endswith("."):
        _STEMS[_stem[:_STEM_CHARS]] = (*_STEMS.get(_stem[:_STEM_CHARS], ()), _stem)
_META, _PLAIN = frozenset(META_WORDS.split()), frozenset(PLAIN_WORDS.split())
_PHRASES = re.compile(rf"\b(?:{PLAIN_PHRASES})\b", re.IGNORECASE)
_BEGAN = re.compile(
    r"(\bwhen (?:did|does|do|will|was|were|is)\b[^?\n]{1,80}?)\b(?:start|begin|end|open|close)\b"
    r"(?: and (?:end|close)\b)?(?! with)",
    re.IGNORECASE,
)
"""When something began: what order has to do with it is told by its subject."""
_BEGAN_FOREIGN = re.compile(
    r"((?:^|[¿¡:.!?\n])[ \t]*(?:wann|quand|cu[áa]ndo|quando|wanneer|när|hvornår|når|kiedy|когда)\b"
    r"(?: (?:est-ce qu(?:e |['’])[^?\n]{1,60}?|się))?)[ ]"
    r"(?:beg[ia]nn(?:t|en)?|ende(?:t|te|n)|startet|öffnet|schließt|commen[cç](?:e|ent|a)|"
    r"d[ée]but(?:e|ent|a)|finit|se termine|ouvre|ferme|empi?ez[aó]n?|comi?en[zc][aó]n?|terminan?|"
    r"terminó|acaban?|acabó|abren?|cierran?|inizi(?:a|ano|ò)|cominci(?:a|ano|ò)|finis(?:ce|cono)|"
    r"finì|apre|chiude|começ(?:a|am|ou)|terminou|acabou|fecham?|beg[io]nt|begon|eindig(?:t|de)|"
    r"sluit|börja(?:r|de)|sluta(?:r|de)|begynder|slutter|starter|zaczyna|kończy|начинается|"
    r"начал(?:ся|ась|ось|ись)|заканчивается|закончил(?:ся|ась|ось|ись))\b",
    re.IGNORECASE,
)
"""The same in languages whose verb comes next: `Wann beginnt ...?`."""
_FAR_ORDER = re.compile(FAR_ORDER_WORDS)
_FAR = re.compile("[\u0590-\u06ff\u0900-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7ff]")
_UNSPACED = re.compile(f"[{_UNSPACED_CHARS}]")
_HANGUL = re.compile("[\uac00-\ud7ff]")
_FAR_PLAIN = re.compile("[\u3041-\u309f]{2}|什么|什麼|多少|为什|么要|哪|怎|何")

_PLACE = re.compile(
    r"(?<![\w.,:/-])(\d{1,2})(?![.,:/-]?\d)"
    r"(?= (?:and|or|to|und|oder|et|ou|y|e|i|и)\b|\s*[^\w\s%°]|\s*$)"
)
_RANGE = re.compile(r"(?<![\w.,:/$€£-])(\d{1,2})[ ]?[-–][ ]?(\d{1,2})(?![\w.,:/%°-]\w?| [a-z]+s\b)")
_ROMAN = re.compile(r"\b(?:I{2,3}|I?V|VI{1,3}|I?X)\b(?![\w.-]\w)")
_PAIR = re.compile(r"\b[A-H] (?:\w+ ){1,3}([B-H])\b(?![\w'’.-]\w)")
_LETTERS = re.compile(r"\b[A-H], [A-H],? (?:[A-H],? )*(?:or|and|oder|ou|o|y|und|et) [A-H]\b")
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")
_LABEL = re.compile(
    rf"^[^\n]{{0,60}}?\b(?:{QUESTION_LABELS})"
    r"[ \t]?[^\w\n?]{0,8}(?:[:：\]>]|$)",
    re.IGNORECASE | re.MULTILINE,
)
_OTHER_LABEL = re.compile(
    r"^[^\w\n]{0,8}\w+(?: \w+)?[ \t*_]*[:：][ \t*_]*$|<[^<>\n]{1,80}>", re.MULTILINE
)
_ASKS_NOTHING = re.compile(r"[\W_]*(?:\w+[ ]?!+[\W_]*)?$")
"""A rule, or a word alone: `Begin!`."""
_SENTENCE = re.compile(r"[^\n.!?。！？؟]+[.!?。！？؟]*")
_OF_SOURCES = re.compile(
    r"^\W*(?:(?:please|you|always|and|but|so) (?:must |should |may |can )?)?(?:us(?:e|ing)|"
    r"bas(?:e|ed)|given|from|with|according|here|below|above|(?:the )?following|these|only|if|do|"
    r"don't|never|rely|refer|consult|consider|ground|retrieved|relevant|i|we|(?:the )?"
    r"(?:contexts?|sources?|documents?|passages?))\b",
    re.IGNORECASE,
)
"""How a sentence begins that only tells what to answer from."""
_SOURCES = re.compile(r"\b(?:contexts?|sources?|documents?|passages?)\b", re.IGNORECASE)
_FOREIGN_SOURCES = re.compile(
    r"\b(?:quellen|dokumente\w*|documentos|documenti|документ\w*)\b|文档|資料", re.IGNORECASE
)
_INSTRUCTION = re.compile(
    r"\b(?:answer|answers|answering|respond|response|reply|cite|citing|citations?|"
    r"remember|(?:do not|don't|not) know|helpful|concise|markdown|"
    r"assistant|antworte|beantworte|réponds|répondez|réponse|"
    r"responde|respuesta|rispondi|ответ\w*|odpowiedz)\b|"
    r"回答|答え|답변",
    re.IGNORECASE,
)


class Question(NamedTuple):
    """What a question is made of.

    Attributes:
        words: stems of what it is about, each once.
        orders: words of place or sequence in it.
        metas: how many of its words speak of texts.
        plain: it holds a question mark, and its language is known.
        places: numbers in it that count nothing, so that they may be places.
    """

    words: tuple[str, ...]
    orders: tuple[str, ...]
    metas: int
    plain: bool
    places: tuple[str, ...] = ()

    def speaks_of_order(self, blocks: Sequence[str]) -> bool:
        """Return whether it speaks of order in a way that no block does of the same thing.

        A number that may be a block's place speaks of order, too.
        """
        orders = [*self.orders, *(n for n in self.places if 0 < int(n) <= len(blocks))]
        if not orders:
            return False
        texts = list(_searched(blocks))
        best = self._best(texts)
        sure = best >= max(_SURE_WORDS, _SURE_SHARE * len(self.words)) and not self.metas
        return not sure and not all(
            any(_near(text, order, self.words) for text in texts) for order in orders
        )

    def counts_alone(self, blocks: Sequence[str]) -> bool:
        """Return whether it speaks of the blocks' order, and hardly of what stands in them.

        So a later turn must speak that is to bring back the order given.
        """
        if not self.speaks_of_order(blocks):
            return False
        return self.metas > 0 or not self._best(_searched(blocks))

    def is_about(self, blocks: Sequence[str]) -> bool:
        """Return whether it asks for what a block may hold.

        A block holds some of its words; or it is a plain question in words of its own, as of those
        whose documents are in another language.
        """
        if self.plain and not self.metas:
            return True
        share = _MIN_META_SHARE if self.metas else _MIN_SHARE
        return self._best(_searched(blocks), max(1, share * (len(self.words) + self.metas))) > 0

    def _best(self, texts: Sequence[str] | Iterator[str], least: float = 1) -> int:
        """Return how many of its words a block holds at most; 0 for fewer than `least`."""
        best = 0
        for text in texts:
            best = max(best, sum(_holds(text, word) for word in self.words))
            if best == len(self.words):
                break
        return best if best >= least else 0


def question_in(text: str, *, last_alone: bool = False, spoken: bool = False) -> str:
    """Return the question that stands in a text around blocks; "" if there is none.

    It is what follows the last label (`Question:`); without one, the last sentences. What only
    tells to answer from documents is no question, unless a user says so.

    Args:
        last_alone: a block may stand before it, so that only the last line is read.
        spoken: it is a message of its own: where it is short, all of it counts.
    """
    if spoken and len(text) <= _MAX_SPOKEN:
        return " ".join(_unlabelled(text).split())
    tail = text[-4 * _MAX_QUESTION :]
    for label in reversed([*_LABEL.finditer(tail)]):
        asked = _asked(tail[label.end() :])
        if asked:
            return asked[:_MAX_QUESTION]
    parts = reversed(tail.split("\n")) if last_alone else (tail,)
    return next(filter(None, map(_asked, parts)), "")[-_MAX_QUESTION:]


def _asked(text: str) -> str:
    """Return the sentences of a text that are no instruction."""
    kept = [
        sentence
        for sentence in _SENTENCE.findall(_unlabelled(text))
        if sentence.rstrip()[-1:] in QUESTION_MARKS or not _is_no_request(sentence)
    ]
    return " ".join(" ".join(kept).split())


def _is_no_request(sentence: str) -> bool:
    """Return whether a sentence only tells to answer from documents, and speaks of no order."""
    if _ASKS_NOTHING.match(sentence) or _INSTRUCTION.search(sentence):
        return True
    of_sources = _OF_SOURCES.match(sentence) and _SOURCES.search(sentence)
    if not of_sources and not _FOREIGN_SOURCES.search(sentence):
        return False
    return not read_question(sentence).orders


def _unlabelled(text: str) -> str:
    """Return a text without tags and lines that are labels, `Answer:` say; "" without words."""
    plain = _OTHER_LABEL.sub("\n", text).strip()
    return plain if _WORD.search(plain) else ""


def read_question(text: str) -> Question:
    """Read a question, of any language that `order_words` knows."""
    return _read(whose(), text)


@lru_cache(maxsize=256)
def _read(_whose: str, text: str) -> Question:
    words: dict[str, None] = {}
    orders: dict[str, None] = {}
    metas, known = 0, False
    for match in _WORD.finditer(_PHRASES.sub(" ", _without_began(text)).lower()):
        word = match[0]
        known = known or word in _PLAIN or _UNSPACED.match(word) is not None
        if _FAR.match(word):
            found, about = _read_far(word)
            orders.update(dict.fromkeys(found))
            words.update(dict.fromkeys(about))
        elif _is_order(word):
            orders[word] = None
        elif word in _META:
            metas += 1
        elif word not in _PLAIN and (len(word) > 1 or word.isdigit()):
            words[_stem_of(word)] = None
    if _LETTERS.search(text):
        orders["letters"] = None
    if len(text) <= _MAX_SPOKEN:
        named = [*(m[0] for m in _ROMAN.finditer(text)), *(m[1] for m in _PAIR.finditer(text))]
        orders.update(dict.fromkeys(map(str.lower, named)))
    counted = itertools.chain(_PLACE.finditer(text), _RANGE.finditer(text))
    places = tuple(n for match in islice(counted, _MAX_WORDS) for n in match.groups())
    asks = any(mark in text for mark in QUESTION_MARKS) or text.endswith(";")  # as Greek does
    plain = known and asks
    subject = tuple(word for word in words if word not in places)
    return Question(subject[:_MAX_WORDS], tuple(orders)[:_MAX_WORDS], metas, plain, places)


def _without_began(text: str) -> str:
    """Return a text without the verbs that ask when something began or ended."""
    return _BEGAN_FOREIGN.sub(r"\1", _BEGAN.sub(r"\1", text))


def _read_far(word: str) -> tuple[Sequence[str], Sequence[str]]:
    """Return words of order, and what else it is about, of a script without spaces or stems."""
    orders = _FAR_ORDER.findall(word)
    if not _UNSPACED.match(word):
        return orders, [] if orders or word in _PLAIN else [_stem_of(word)]
    rest = _FAR_ORDER.sub("\n", word)
    pairs = [rest[at : at + 2] for at in range(len(rest) - 1)]
    return orders, [p for p in pairs if "\n" not in p and not _FAR_PLAIN.search(p)]


def _is_order(word: str) -> bool:
    return word in _WHOLE or word.startswith(_STEMS.get(word[:_STEM_CHARS], ("\n",)))


def _stem_of(word: str) -> str:
    if _HANGUL.match(word):
        return word[:2]
    size = len(word)
    return word[: 4 if size <= 6 else 5 if size <= 8 else 6]


def _searched(blocks: Sequence[str]) -> Iterator[str]:
    """Yield the blocks in small letters, as far as is looked."""
    left = _MAX_SEARCHED
    for block in blocks:
        if left <= 0:
            return
        text = block[:left]
        yield (_ESCAPED.sub(_unescaped, text) if "\\u" in text else text).lower()
        left -= len(block)


def _unescaped(match: re.Match[str]) -> str:
    return chr(int(match[1], 16))


def _places(text: str, word: str) -> Iterator[int]:
    """Yield where a word begins so; one of three letters or fewer is looked for whole."""
    spaced = not _FAR.match(word)
    at = text.find(word)
    for _ in range(_MAX_HITS):
        if at < 0:
            return
        end = at + len(word)
        inside = spaced and at > 0 and text[at - 1].isalnum()
        longer = spaced and len(word) < _STEM_CHARS + 1 and text[end : end + 1].isalnum()
        if not inside and not longer:
            yield at
        at = text.find(word, end)


def _holds(text: str, word: str) -> bool:
    return any(True for _ in _places(text, word))


def _near(text: str, order: str, words: Sequence[str]) -> bool:
    """Return whether a text says this of order beside one of the words."""
    for at in _places(text, order):
        around = text[max(0, at - _NEAR_CHARS) : at + len(order) + _NEAR_CHARS]
        if any(word != order and _holds(around, word) for word in words):
            return True
    return False
