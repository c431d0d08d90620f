"""Whether titles count without a word for it: weekdays, months, years, `Part Two`, `第三章`."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

_CYCLES = (
    # weekdays
    "monday tuesday wednesday thursday friday saturday sunday",
    "mon tue wed thu fri sat sun",
    "montag dienstag mittwoch donnerstag freitag samstag sonntag",
    "lundi mardi mercredi jeudi vendredi samedi dimanche",
    "lunes martes miércoles jueves viernes sábado domingo",
    "lunedì martedì mercoledì giovedì venerdì sabato domenica",
    "segunda terça quarta quinta sexta sábado domingo",
    "maandag dinsdag woensdag donderdag vrijdag zaterdag zondag",
    "понедельник вторник среда четверг пятница суббота воскресенье",
    "星期一 星期二 星期三 星期四 星期五 星期六 星期日",
    "月曜日 火曜日 水曜日 木曜日 金曜日 土曜日 日曜日",
    # months
    "january february march april may june july august september october november december",
    "jan feb mar apr may jun jul aug sep oct nov dec",
    "januar februar märz april mai juni juli august september oktober november dezember",
    "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
    "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
    "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre dicembre",
    "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
    "январь февраль март апрель май июнь июль август сентябрь октябрь ноябрь декабрь",
    # seasons, times of the day
    "spring summer autumn winter",
    "morning noon afternoon evening night",
    # numbers
    "one two three four five six seven eight nine ten eleven twelve",
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth",
    "eins zwei drei vier fünf sechs sieben acht neun zehn",
    "erster zweiter dritter vierter fünfter sechster siebter achter neunter zehnter",
    "premier deuxième troisième quatrième cinquième sixième septième huitième neuvième dixième",
    "primero segundo tercero cuarto quinto sexto séptimo octavo noveno décimo",
    "i ii iii iv v vi vii viii ix x xi xii",
    "一 二 三 四 五 六 七 八 九 十",
)
_PLACES: dict[str, list[tuple[int, int]]] = {}
for _kind, _cycle in enumerate(_CYCLES):
    for _place, _word in enumerate(_cycle.split()):
        _PLACES.setdefault(_word, []).append((_kind, _place))
_TOKEN = re.compile(
    r"(?:19|20)\d\d(?!\d)|(?<=\bq)[1-4]\b|(?<=\bh)[12]\b|(?<![\w./-])\d{1,6}(?![\w.-])|"
    r"(?<![\w./-])\d{1,6}(?=[-–]\d)|(?<=\d[-–])\d{1,6}(?![\w.-])|(?:星期|[月火水木金土日]曜)[一二三四五六日]?|[一二三四五六七八九十]|"
    r"[^\W\d_一二三四五六七八九十]+"
)
"""Numbers that are part of a name (`f3.pdf`, `a-7`, 0.81) count nothing; years do everywhere."""
_OTHER_NUMBERS = frozenset(
    (
        *("id", "ids", "score", "relevance", "similarity", "distance", "confidence", "match"),
        *("http", "https"),
    )
)
_REPLY = re.compile(
    r"(?:(?:re|aw|sv|antw|rv|ré|rif|fwd?|wg|tr|回复|答复)(?:\[\d\])?[:：]\s*)+", re.IGNORECASE
)
_MIN_TITLES = 3
_TITLE_CHARS = 120
_FIRST = 8
"""Of many titles so many are read first."""


def count_by_name(titles: Sequence[str]) -> bool:
    """Return whether titles are replies, or the same up to days, months, numbers in order.

    One of them may be of its own: a prologue, the end.
    """
    if len(titles) < _MIN_TITLES:
        return False
    if _are_replies(titles):
        return True
    if len(titles) > 2 * _FIRST and not count_by_name(titles[:_FIRST]):
        return False  # of the first, too, one at most is of its own
    read = [_TOKEN.findall(title[:_TITLE_CHARS].lower()) for title in titles]
    if any(_OTHER_NUMBERS.intersection(tokens) for tokens in read):
        return False
    kinds = Counter(kind for tokens in read for kind in _kinds(tokens))
    usual = {kind for kind, times in kinds.items() if times >= len(titles) - 1}
    counted = [_counted(tokens, usual) for tokens in read]
    frames = Counter(frame for frame, values in counted if values)
    frame, times = max(frames.items(), key=lambda item: item[1], default=((), 0))
    if times < max(_MIN_TITLES, len(titles) - 1):
        return False
    values = [numbers for other, numbers in counted if other == frame]
    orders = (values, [v[::-1] for v in values], [(v[-1], *v[:-1]) for v in values])
    return any(_is_monotone(order) for order in orders)


def _are_replies(titles: Sequence[str]) -> bool:
    """Return whether most titles are replies, and all are of one subject: a thread of mails."""
    replies = [_REPLY.match(title) for title in titles]
    subjects = {_REPLY.sub("", title, count=1).strip().lower() for title in titles}
    return 2 * sum(map(bool, replies)) > len(titles) and len(subjects) == 1


def _kinds(tokens: Sequence[str]) -> set[int]:
    return {kind for token in tokens for kind, _ in _PLACES.get(token, ())}


def _counted(tokens: Sequence[str], usual: set[int]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return a title without what counts in it, and the numbers that stand for that."""
    frame, values = [], []
    for token in tokens:
        places = [place for kind, place in _PLACES.get(token, ()) if kind in usual]
        if token.isdecimal():
            values.append(int(token))
        elif places:
            values.append(places[0])
        frame.append("#" if token.isdecimal() or places else token)
    return tuple(frame), tuple(values)


def _is_monotone(values: Sequence[tuple[int, ...]]) -> bool:
    pairs = list(itertools.pairwise(values))
    return all(a < b for a, b in pairs) or all(a > b for a, b in pairs)
