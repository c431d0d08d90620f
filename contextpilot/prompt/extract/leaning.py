"""Whether blocks lean on one another, whatever they are called: steps, stories, letters, clauses.

Documents that a search found begin as texts of their own. What goes on from the block before shows
it at its beginning: by a word of sequence, by somebody or something that was named before, by an
order to the reader, as steps have, or by counting on. No single sign suffices, most blocks have to
show one; of clauses that name the one right before a quarter will do.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_OPENING = r"[\W_]{0,4}"
_AFTER = re.compile(
    rf"{_OPENING}(?:(?:and |but |so )?(?:then|next|after (?:that|this|which)|afterwards|"
    r"finally|lastly|at last|meanwhile|thereupon|in (?:reply|return|the end)|therefore|thus|hence|"
    r"consequently|"
    r"in (?:such (?:an? )?|that )(?:case|event)|the same (?:applies|holds|goes)\b|"
    r"(?:gleiches|das gleiche|dasselbe) gilt|il en va de même|lo mismo (?:se aplica|vale)|"
    r"as (?:a result|agreed|promised|you asked)|instead|from (?:this|that|then)|since then|"
    r"by (?:morning|noon|evening|nightfall|then|this|what)|(?:the )?(?:next|following|same) "
    r"(?:day|morning|evening|night|week|year|spring|summer|autumn|winter)|"
    r"that (?:day|morning|afternoon|evening|night|week|year|spring|summer|autumn|winter)|"
    r"thank(?:s| you) for your|your (?:letter|mail|e-mail|message|answer|reply|note)|"
    r"dann|danach|daraufhin|anschließend|schließlich|nun|zuletzt|sodann|puis|ensuite|enfin|alors|"
    r"luego|después|entonces|finalmente|"
    r"poi|infine|depois|então|toen|daarna|vervolgens|därefter|sedan|derefter|deretter|"
    r"потом|затем|наконец|"
    r"następnie|potem|sonra|ardından)\b|"
    r"首先|然后|然後|接着|接著|紧接着|随后|之后|再(?:把|将|用|次)|最后|最後|于是|まず|次に|続いて|そして|それから|"
    r"その後|そのあと|最後に|먼저|그다음|다음으로|그리고|"
    r"이어서|그 ?후|마지막으로|ثم|بعد ذلك|أخيرا)",
    re.IGNORECASE,
)
_NAMED_BEFORE = re.compile(
    r"\b(?:(?:the|this|that) (?:preceding|foregoing|latter|former)|aforesaid|aforementioned|"
    r"(?:just|already|previously) (?:mentioned|shown|described|said|stated|named)|"
    r"(?:mentioned|named|listed|described|stated|shown|set out) (?:above|before)|"
    r"oben (?:genannt|erwähnt|beschrieben)\w*|"
    r"(?:a|the) further|(?:the )?latest|vorstehend\w*|vorgenannt\w*|"
    r"susmentionn\w*|antedich\w*|suddett\w*|voornoemd\w*|вышеуказанн\w*)\b|"
    r"前款|前项|上述|前項|上記|전항",
    re.IGNORECASE,
)
_CLAUSE_BEFORE = re.compile(
    r"\b(?:the|this) (?:preceding|foregoing|previous|following|next) (?:clause|paragraph|"
    r"sub-?(?:section|paragraph|clause)|sentence|article|step|turn|speaker|amendment)s?\b|"
    r"\b(?:the|dem|des|den) (?:vorstehenden|vorherigen|vorigen|vorangehenden) "
    r"(?:absatz|absatzes|artikel|satz|schritt)\b|"
    r"\b(?:clause|alinéa|article|paragraphe|étape) précédente?\b|"
    r"\b(?:cláusula|párrafo|apartado|artículo|paso) anterior\b|前款|前条|前項",
    re.IGNORECASE,
)
_SOMEBODY = re.compile(
    rf"{_OPENING}(?:s?he|they|him|her|his|their|but|and|so|this|these|such|once|now|your|"
    r"er|sie|dies\w*|il|elle|ils|elles|cela|él|ella|esto|lui|lei|ele|ela|hij|zij|dit|"
    r"он|она|они|это)\b",
    re.IGNORECASE,
)
_PERSON = re.compile(
    rf"{_OPENING}(?:(?:s?he|they|him|her|his|their|ella|él|он|она)\b|他|她|彼(?:[はがのを]|女))",
    re.IGNORECASE,
)
"""People named before, in words that say nothing else in their language."""
_NO_VERBS = (
    "in on at by for from with about of as if when while where after before since until because "
    "although though unless whether during under over above below between within without through "
    "across against among around behind beside beyond despite except inside into near off onto "
    "outside past per than that then there these this those to toward towards unlike like upon "
    "via what which who whose why how the a an all any both each either every few half many more "
    "most much neither no none not only other our own same several some such their very we you he "
    "she it they i is are was were be been has have had can could may might must shall should will "
    "would does did do and or but nor so yet even just quite rather once twice almost about here "
    "up down off out away back"
)
_ROMANCE = (
    "sobre desde entre contra durante mediante hasta donde cuando como toda todas para ante oltre "
    "sopra contro anche prima tutta quella questa nessuna come dentro onde quando conforme pela "
    "ainda aunque mientras porque perche contre depuis pendant "
    "malgré outre comme selon dopo"
)
_IMPERATIVE = re.compile(
    rf"{_OPENING}(?:(?:now|then|next|first|finally|also|please|[a-z]+ly|once [^,.\n]{{1,80}},),? )?"
    rf"(?:(?:do not|don't|never|always) \w|"
    rf"(?!(?:{_NO_VERBS.replace(' ', '|')})\b)[a-z]{{2,12}}(?<!ing)(?<!ed)(?<![^s]s)"
    r"(?: (?:off|out|up|down|back|away))? (?:the|an?|your|both|all|it|them)\b)|"
    r"[\W_]{0,4}(?:(?:dann|nun|jetzt|zuletzt) )?[a-zäöüß]{3,14}en sie\b|"
    r"[\W_]{0,4}(?!chez|assez)[a-zéèêâîûç]{3,14}ez\b|"
    rf"{_OPENING}[а-яё]{{3,14}}(?<!вмес)те(?:сь)?\b|"
    rf"{_OPENING}(?!(?:{_ROMANCE.replace(' ', '|')})\b)[a-zà-ÿ]{{4,14}}(?:[ea]n?|ere|ire) "
    r"(?:el|la|los|las|una?|sus?|os?|as|uma?|il|lo|gli|le)\b|"
    r"[^\n。]{0,120}(?:てください|下さい)|[\W_]{0,4}请",
    re.IGNORECASE,
)
_ORDINALS = (
    *("first", "second", "third", "fourth", "fifth"),
    *("sixth", "seventh", "eighth", "ninth", "tenth"),
)
_COUNTING_ON = re.compile(
    rf"{_OPENING}(?:(?:ladies|dear)\b[^.!?\n]{{0,160}})?(?:and |but )?(?:the |my |our |a )?"
    rf"({'|'.join(_ORDINALS)})\b",
    re.IGNORECASE,
)
_MAX_BLOCKS = 64
"""So many blocks of a list are read: what leans does so from the start."""
_VERSE_LINES, _VERSE_CHARS = (3, 14), (8, 56)


def lean(bodies: Sequence[str], heads: Sequence[str]) -> str:
    """Return the rule against moving blocks that lean on one another; "" if they do not.

    Args:
        bodies: the blocks.
        heads: how each begins.
    """
    read = heads[:_MAX_BLOCKS]
    if _are_instructions(read):
        return "counted"
    return "continued" if _go_on(read) or _are_stanzas(bodies[:_MAX_BLOCKS]) else ""


def _are_instructions(heads: Sequence[str]) -> bool:
    """Return whether most blocks tell the reader what to do, as steps and recipes."""
    return 2 * sum(_IMPERATIVE.match(head) is not None for head in heads) > len(heads)


def _go_on(heads: Sequence[str]) -> bool:
    """Return whether most blocks go on from the one before, by how they begin."""
    later = heads[1:]
    told = [_AFTER.match(h) is not None or _NAMED_BEFORE.search(h) is not None for h in later]
    leaning = [known or _SOMEBODY.match(h) for known, h in zip(told, later, strict=True)]
    if any(told) and 2 * sum(map(bool, leaning)) > len(later):
        return True
    people = sum(_PERSON.match(head) is not None for head in later)
    if people > 1 and 2 * people >= len(later):
        return True
    named = sum(_CLAUSE_BEFORE.search(head) is not None for head in heads)
    return 4 * named >= len(heads) or _count_on(later)


def _count_on(heads: Sequence[str]) -> bool:
    """Return whether blocks begin with ordinals that go up: the second ..., and the third ..."""
    found = [match[1].lower() for match in map(_COUNTING_ON.match, heads) if match]
    places = [_ORDINALS.index(word) for word in found]
    return 2 * len(places) > len(heads) and len(places) > 1 and places == sorted(set(places))


def _are_stanzas(bodies: Sequence[str]) -> bool:
    """Return whether blocks are verses: as many short lines each, without fields or code."""
    fewest, most = _VERSE_LINES
    sizes = {body.strip("\n").count("\n") + 1 for body in bodies}
    if len(sizes) > 1 or not fewest <= min(sizes) <= most:
        return False
    shortest, longest = _VERSE_CHARS
    return all(
        shortest <= len(line) <= longest and line[:1].isalpha() and ":" not in line
        for body in bodies
        for line in body.strip("\n").split("\n")
    )
