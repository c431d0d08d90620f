"""Scores what the model wrote: against gold answers (found, exact match, F1), or by a judge model.

Normalisation as in SQuAD (Rajpurkar et al., 2016): lower case, no punctuation, no articles.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contextpilot.bench import paired
from contextpilot.bench.drive import Sender
from contextpilot.bench.paired import CLASSES, McNemar, by_class
from contextpilot.bench.prompts import Prompt, Requests
from contextpilot.bench.results import BASELINE
from contextpilot.bench.schedule import Pass
from contextpilot.bench.statistics import Interval, mean_of
from contextpilot.errors import CommandError
from contextpilot.tables import shown_table, terminal_width, wrap

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WORD = re.compile(r"\w+")
_VERDICT = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
_JUDGE_SYSTEM = "You grade answers. Reply with one word: yes or no."
_JUDGE_FORM = (
    "Question: {query}\n{gold}Answer to grade: {answer}\n\n"
    "Is the answer to grade correct{measure}? Reply yes or no."
)

Gold = Sequence[Sequence[str]]
Scores = dict[int, float]


@dataclass(frozen=True)
class AnswerResult:
    """How well one arm answered; shares from 0 to 1.

    Attributes:
        requests: that were scored.
        measures: by name the mean with its interval.
        changes: by name the difference to the baseline on the same requests, with its interval.
        tests: by name, of measures that are yes or no, who gained and who lost.
        classes: of the first measure, its change by how far the blocks of a prompt moved.
    """

    name: str
    requests: int
    measures: Mapping[str, Interval]
    changes: Mapping[str, Interval]
    tests: Mapping[str, McNemar] = field(default_factory=dict)
    classes: Mapping[str, tuple[int, Interval]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the scores as a dictionary, ready for JSON."""
        return {
            "mode": self.name,
            "requests": self.requests,
            "scores": {name: value.as_dict() for name, value in self.measures.items()},
            "change_to_plain": {name: value.as_dict() for name, value in self.changes.items()},
            "mcnemar": {name: test._asdict() for name, test in self.tests.items()},
            "change_by_displacement": paired.as_dict(self.classes),
        }


def normalized(text: str) -> str:
    """Return a text as it is compared."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def gold_found(answer: str, golds: Sequence[str]) -> float:
    """Return 1 if one of the gold answers stands in the answer, else 0."""
    text = f" {_words(answer)} "
    return float(any(f" {gold} " in text for gold in map(_words, golds) if gold))


def _words(text: str) -> str:
    return " ".join(_WORD.findall(text.lower()))


def exact_match(answer: str, golds: Sequence[str]) -> float:
    """Return 1 if the answer is one of the gold answers, else 0."""
    return float(normalized(answer) in {normalized(gold) for gold in golds})


def token_f1(answer: str, golds: Sequence[str]) -> float:
    """Return the best harmonic mean of precision and recall of words over the gold answers."""
    return max((_f1(normalized(answer).split(), normalized(g).split()) for g in golds), default=0.0)


def _f1(answer: Sequence[str], gold: Sequence[str]) -> float:
    if not answer or not gold:
        return float(answer == gold)
    common = sum((Counter(answer) & Counter(gold)).values())
    return 2 * common / (len(answer) + len(gold))


class Judge:
    """A model that says whether answers are correct. For use within one event loop."""

    def __init__(self, url: str, sender: Sender) -> None:
        self._url = url
        self._sender = sender

    async def score(self, query: str, golds: Sequence[str], answer: str) -> float:
        """Return 1 for yes and 0 for no.

        Raises:
            CommandError: the judge does not answer, or with neither.
        """
        text = _JUDGE_FORM.format(
            query=query,
            gold=f"Known correct answers: {' | '.join(golds)}\n" if golds else "",
            answer=answer,
            measure=", measured by the known ones" if golds else "",
        )
        messages = [
            {"role": "system", "content": _JUDGE_SYSTEM},
            {"role": "user", "content": text},
        ]
        sent = await self._sender.send(self._url, Prompt(0, messages))
        if sent.error:
            raise CommandError(f"the judge at {self._url} fails: {sent.error}")
        verdicts = _VERDICT.findall(sent.text)
        if not verdicts:
            raise CommandError(f"the judge says neither yes nor no: {sent.text[:100]!r}")
        return float(verdicts[-1].lower() == "yes")


async def score_answers(
    passes: Sequence[Pass], requests: Requests, gold: Gold, judge: Judge | None, seed: int
) -> list[AnswerResult]:
    """Score the first repetition of every arm; requests that failed somewhere count nowhere."""
    first = [each for each in passes if each.repetition == 0]
    failed = {sent.position for each in first for sent in each.sent if sent.error}
    scores: dict[str, dict[str, Scores]] = {}
    for each in first:
        texts = {s.position: s.text for s in each.sent if s.position not in failed}
        scores[each.arm.name] = await _scores(texts, requests, gold, judge)
    base = scores.get(BASELINE)
    prompts = {each.arm.name: each.prompts for each in first}
    return [_result(name, own, base, prompts[name], seed) for name, own in scores.items()]


async def _scores(
    texts: Mapping[int, str], requests: Requests, gold: Gold, judge: Judge | None
) -> dict[str, Scores]:
    measures: dict[str, Callable[[str, Sequence[str]], float]] = {
        "gold found": gold_found,
        "exact match": exact_match,
        "token F1": token_f1,
    }
    known = {position: text for position, text in texts.items() if gold[position]}
    found = {
        name: {position: measure(text, gold[position]) for position, text in known.items()}
        for name, measure in measures.items()
        if known
    }
    if judge is not None:
        found["judge"] = {
            position: await judge.score(requests.queries[position], gold[position], text)
            for position, text in texts.items()
        }
    return found


def _result(
    name: str,
    own: Mapping[str, Scores],
    base: Mapping[str, Scores] | None,
    prompts: Sequence[Prompt],
    seed: int,
) -> AnswerResult:
    measures = {m: mean_of(list(scores.values()), seed) for m, scores in own.items() if scores}
    changes, tests, classes = {}, {}, dict[str, tuple[int, Interval]]()
    if base is not None and name != BASELINE:
        for measure in measures:
            theirs = base[measure]
            pairs = {at: score - theirs[at] for at, score in own[measure].items()}
            changes[measure] = mean_of(list(pairs.values()), seed)
            if measure != "token F1":
                tests[measure] = McNemar.of(list(pairs.values()))
            classes = classes or by_class(pairs, prompts, seed)
    count = max((len(scores) for scores in own.values()), default=0)
    return AnswerResult(name, count, measures, changes, tests, classes)


def render(results: Sequence[AnswerResult], judge: str) -> str:
    """Return the scores as text."""
    names = list(results[0].measures)
    rows = []
    for result in results:
        row = [result.name, f"{result.requests:,}"]
        for name in names:
            change = result.changes.get(name)
            row += [_points(result.measures[name]), _points(change, "+") if change else "–"]
        rows.append(row)
    header = ["mode", "answers"]
    for name in names:
        header += [f"{name} %", "vs. plain, points"]
    by = f"; judged by {judge}" if judge else ""
    parts = [f"Answers (95 % intervals{by})\n" + shown_table(header, rows)]
    changed = [_changed(result) for result in results if result.tests]
    if changed:
        header = ["mode", "gained", "lost", "p", *CLASSES]
        title = (
            f"{names[0]}: requests that gained and lost it, p of McNemar's test, and "
            "the change in points by how far blocks moved (requests)"
        )
        parts.append(f"{wrap(title, terminal_width())}\n{shown_table(header, changed)}")
    return "\n\n".join(parts)


def _changed(result: AnswerResult) -> list[str]:
    test = next(iter(result.tests.values()))
    row = [result.name, f"{test.gained}", f"{test.lost}", f"{test.p:.3f}"]
    for name in CLASSES:
        count, change = result.classes.get(name, (0, None))
        row.append(f"{_points(change, '+')} ({count})" if change else "–")
    return row


def _points(interval: Interval, sign: str = "") -> str:
    value, low, high = (100 * number for number in interval)
    return f"{value:{sign}.1f} [{low:{sign}.1f}–{high:{sign}.1f}]"


def as_lines(passes: Sequence[Pass]) -> str:
    """Return what every arm answered, as JSON Lines; the workload's texts are not in it."""
    rows = [
        {"mode": each.arm.name, "position": sent.position, "answer": sent.text}
        for each in passes
        if each.repetition == 0
        for sent in each.sent
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)
