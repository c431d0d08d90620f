"""Conversations in which a text comes again on purpose, or only nearly: thought up before the
rules were seen that judge them.

What a user says, instructions above all, is never replaced; nor is anything but a whole, exact
repeat in full view.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from corpus_talks import LONG, MODULE, NEWS, Step, Talk

_OK: Step = ("assistant", "", "Done.")
_RULES = "\n".join(
    f"{n}. {rule}"
    for n, rule in enumerate(
        (
            "Answer in at most three sentences and in the language of the question.",
            "Never name a price that does not stand in the price list of this month.",
            "Ask for the number of the order before you speak of a delivery.",
            "Do not promise a refund; say that a colleague will call back by noon.",
            "If the customer is angry, say sorry once and do not repeat it later.",
            "Close with the name of the shop and nothing else, no emoji, no slogan.",
            "Refuse questions on politics, health and law in one friendly sentence.",
            "Whoever asks whether you are a machine is told the truth at once.",
        ),
        1,
    )
)
_SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {
            name: {"type": "string", "description": f"the {name} as it stands in the text"}
            for name in ("sender", "recipient", "street", "city", "postcode", "country", "weight")
        },
        "required": ["sender", "recipient", "city"],
    },
    indent=2,
)
_STORY = "\n".join(
    (
        "The keeper of the lock had two keys, one for the gate and one for the house.",
        "In the week of the flood he gave the key of the house to his sister.",
        "She hung it on the nail behind the clock and forgot about it by Sunday.",
        "On Monday the water stood in the kitchen and the clock had stopped at four.",
        "He came in a boat, through the window, and asked her for the key of the gate.",
        "She said that he had never given her any key but the one for the house.",
        "They looked at each other, and then at the nail, and there were two keys on it.",
        "Neither of them has ever found out who had been in the house on Saturday.",
    )
)
_LETTER = "\n".join(
    (
        "Dear Ms Peeters,",
        "thank you for your letter of the third, which reached us only yesterday.",
        "The pump that you bought in May is covered for another fourteen months.",
        "Please send us the plate with the serial number, or a photo of it.",
        "Our driver can collect the pump on any weekday between eight and noon.",
        "You will have it back within ten working days, with a new seal in place.",
        "For the time in between we can lend you a smaller pump free of charge.",
        "With kind regards from the workshop, and our apologies for the trouble,",
        "Tom Okada",
    )
)
_LOG = "\n".join(
    f"2025-03-0{1 + n % 9} 08:{n:02d}:11 WARN pool: connection {n * 7 % 13} was closed by the peer"
    for n in range(30)
)
_CSV = "id,town,depth_m,owner\n" + "\n".join(
    f"{n},Basin {n * 37 % 101},{3 + n * 7 % 11}.{n % 10},{'port' if n % 3 else 'town'}"
    for n in range(40)
)
_PYTEST = "\n".join(
    [
        "============================= test session starts =============================",
        *(f"tests/test_lock_{n}.py ......F. [{n * 5:3d}%]" for n in range(1, 20)),
        "FAILED tests/test_lock_3.py::test_gate_opens - AssertionError: 2 != 3",
        "========================= 19 failed, 133 passed in 4.12s ======================",
    ]
)


def repeats() -> list[Talk]:
    """Return the conversations, each through one of the APIs."""
    found = [*_said_by_users(), *_never_touched(), *_nearly(), *_read_again()]
    apis = ("chat", "messages", "responses")
    return [
        Talk(f"again-{talk.name}", talk.steps, apis[at % 3], talk.saves, talk.stays)
        for at, talk in enumerate(found)
    ]


def _users(*texts: str) -> list[Step]:
    return [step for text in texts for step in (("user", "", text), _OK)][:-1]


def _tools(*texts: str, tool: str = "read_file", task: str = "Look at it again.") -> list[Step]:
    return [("user", "", task), *(step for text in texts for step in (_OK, (tool, "a.py", text)))]


def _stays(name: str, steps: list[Step]) -> Talk:
    return Talk(name, steps, stays=True)


def _said_by_users() -> Iterator[Talk]:
    """What a user, or the framework in the user's name, says on purpose each time."""
    orders = ("Where is my parcel?", "It should have come on Friday!", "Are you a machine?")
    yield _stays(
        "rules-each-turn",
        _users(*(f"Follow these rules:\n{_RULES}\n\nCustomer: {q}" for q in orders)),
    )
    yield _stays(
        "reminder-each-turn",
        _users(*(f"{q}\n\n<system-reminder>\n{_RULES}\n</system-reminder>" for q in orders)),
    )
    yield _stays(
        "schema-each-turn",
        _users(
            *(
                f"Extract the address as JSON of this schema:\n{_SCHEMA}\n\nText: {text}"
                for text in ("From Ines Vogt, Mill Lane 3, Ardel", "To Paul, Quay 9, Ardel, 2 kg")
            )
        ),
    )
    yield _stays(
        "rubric-each-turn",
        _users(
            *(
                f"Grade the answer by the rubric.\n\nRubric:\n{_RULES}\n\nAnswer: {a}"
                for a in orders
            )
        ),
    )
    yield _stays("translate-what-i-said", _users(_LETTER, f"Translate into Dutch:\n\n{_LETTER}"))
    yield _stays(
        "my-two-versions",
        _users(
            "Which is better?\n\nVersion A:\n"
            + _STORY
            + "\n\nVersion B:\n"
            + _STORY.replace("boat", "raft")
        ),
    )
    yield _stays(
        "corrected-by-me",
        _users(
            f"Proofread:\n\n{_STORY}",
            f"I changed a word, again please:\n\n{_STORY.replace('four', 'five')}",
        ),
    )
    yield _stays(
        "edit-this-code",
        _users(
            f"Explain:\n\n```python\n{MODULE}\n```",
            f"Now rewrite this with a class, the whole of it:\n\n```python\n{MODULE}\n```",
        ),
    )
    yield _stays(
        "few-shot-chat",
        [
            ("user", "", f"Text:\n{_STORY}\n\nWho?"),
            ("assistant", "", "The keeper and his sister"),
            ("user", "", f"Text:\n{_STORY}\n\nWhen?"),
            ("assistant", "", "In the week of the flood"),
            ("user", "", f"Text:\n{_LETTER}\n\nWho?"),
        ],
    )
    yield _stays("exactly-the-same-again", _users(_LETTER, _LETTER))
    yield _stays(
        "quoted-mail",
        _users(_LETTER, "They wrote again:\n\n" + "\n".join(f"> {x}" for x in _LETTER.split("\n"))),
    )
    yield _stays(
        "count-what-i-paste",
        _users(f"How many lines?\n{_LOG}", f"And how many now?\n{_LOG}\n{_LOG}"),
    )
    yield _stays(
        "user-edits-what-a-tool-read",
        [
            *_tools(MODULE),
            _OK,
            (
                "user",
                "",
                f"Replace the following code, all of it, by a version with types:\n{MODULE}",
            ),
        ],
    )


def _never_touched() -> Iterator[Talk]:
    """Nearly the same, said by the model, from another hand, or too little."""
    yield _stays(
        "assistant-repeats",
        [
            ("user", "", "Tell it."),
            ("assistant", "", _STORY),
            ("user", "", "Again."),
            ("assistant", "", _STORY),
            ("user", "", "Once more."),
        ],
    )
    yield _stays("first-with-own-repeats", _tools("\n".join([_STORY] * 3)))
    yield _stays("first-log", _tools("\n".join([_LOG] * 2), tool="bash"))
    yield _stays("few-lines", _tools("ok\n3 files\ndone", "ok\n3 files\ndone", tool="bash"))
    yield _stays(
        "every-line-differs-a-bit",
        _tools(_LOG, "\n".join(x.replace("08:", "09:") for x in _LOG.split("\n")), tool="bash"),
    )
    yield _stays(
        "one-word-in-one-line",
        _tools(_STORY.replace("\n", " "), _STORY.replace("\n", " ").replace("Sunday", "Monday")),
    )
    yield _stays(
        "indented-otherwise", _tools(_STORY, "\n".join(f"    {x}" for x in _STORY.split("\n")))
    )
    yield _stays("as-a-diff", _tools(_STORY, "\n".join(f"+{x}" for x in _STORY.split("\n"))))
    yield _stays("as-python-repr", _tools(_STORY, repr(_STORY)))
    yield _stays("upper-case", _tools(_STORY, _STORY.upper()))
    yield Talk("lines-in-another-order", _tools(_STORY, "\n".join(sorted(_STORY.split("\n")))))
    yield _stays("cleared", _tools(*["[Old tool result content cleared]"] * 4))
    yield _stays(
        "page-against-policy",
        [
            ("user", "", "Check our policy."),
            ("web_fetch", "x", f"Copied page\n{_RULES}"),
            _OK,
            ("get_policy", "x", f"Our policy\n{_RULES}"),
        ],
    )
    yield _stays(
        "web-page-says-what-a-file-says",
        [
            ("user", "", "Is the page a copy of our file?"),
            ("web_search", "x", _STORY),
            _OK,
            ("read_file", "story.txt", _STORY),
        ],
    )


def _nearly() -> Iterator[Talk]:
    """Texts that differ where it matters: a number, a sign, a blank, a name."""
    table = "\n".join(f"| lock {n} | {n * 3} cm | open |" for n in range(30))
    yield Talk(
        "a-cell-of-a-table", _tools(table, table.replace("| 21 cm | open", "| 21 cm | shut"))
    )
    yield Talk("every-cell-of-a-column", _tools(table, table.replace("open", "shut")))
    config = "\n".join(f"key_{n}: value of key {n} in the staging area" for n in range(25))
    yield Talk(
        "config-one-value", _tools(config, config.replace("of key 9 in the", "of key 9 in no"))
    )
    yield _stays("config-of-another-host", _tools(config, config.replace("staging", "live")))
    yield Talk("last-line-gone", _tools(config, config.rsplit("\n", 1)[0]))
    yield Talk("a-line-twice", _tools(config, config.replace("key_4:", "key_4:\nkey_4:", 1)))
    signed = config.replace("key_7: value", "key_7: -value")
    yield Talk("a-sign", _tools(config, signed))
    yield _stays(
        "said-in-the-system-prompt-too",
        [
            ("user", "", f"Rules:\n{_RULES}"),
            _OK,
            ("user", "", f"Which of these rules did you break?\n{_RULES}"),
        ],
    )
    yield _stays(
        "a-poem-to-be-corrected", [*_tools(_STORY), _OK, ("user", "", f"Correct it:\n{_STORY}")]
    )
    yield Talk(
        "two-tools-one-text",
        [
            ("user", "", "Compare."),
            ("read_file", "a.txt", _STORY),
            _OK,
            ("read_file", "b.txt", _STORY),
        ],
    )
    yield Talk(
        "grep-after-read",
        _tools(
            LONG,
            "\n".join(f"{n}:{x}" for n, x in enumerate(LONG.split("\n"), 1) if "check" in x),
            tool="grep",
        ),
    )
    yield Talk("page-in-two-halves", _tools(LONG[:900], LONG[900:], LONG))


def _read_again() -> Iterator[Talk]:
    """What a tool read again may be a reference, if that can be followed."""
    yield Talk("file-again", _tools(MODULE + LONG, MODULE + LONG), saves=True)
    yield Talk("log-again", _tools(_LOG, _LOG, tool="bash"), saves=True)
    yield Talk("log-grown", _tools(_LOG, _LOG + "\n2025-03-09 09:00:00 WARN pool: empty"))
    yield Talk("csv-again", _tools(_CSV, _CSV), saves=True)
    yield Talk("csv-a-cell-changed", _tools(_CSV, _CSV.replace("Basin 37,", "Basin 38,")))
    yield Talk("csv-filtered", _tools(_CSV, "\n".join(x for x in _CSV.split("\n") if "port" in x)))
    yield Talk("tests-again", _tools(_PYTEST, _PYTEST.replace("4.12s", "4.40s"), tool="bash"))
    yield Talk(
        "tests-one-fewer",
        _tools(_PYTEST, _PYTEST.replace("_3.py ......F.", "_3.py ........"), tool="bash"),
    )
    yield Talk("sed-of-the-file", _tools(LONG, "\n".join(LONG.split("\n")[20:70]), tool="bash"))
    yield Talk(
        "json-with-a-file",
        _tools(LONG, json.dumps({"path": "a.py", "content": LONG, "lines": 120})),
    )
    yield Talk(
        "rows-again-other-ids",
        _tools(
            *(
                json.dumps(
                    [{"id": at + shift, "content": item.text} for at, item in enumerate(NEWS)],
                    indent=1,
                )
                for shift in (0, 5)
            ),
            tool="search",
        ),
    )
    yield Talk(
        "numbers-in-front",
        _tools(_STORY, "\n".join(f"{n}: {x}" for n, x in enumerate(_STORY.split("\n"), 1))),
    )
    yield Talk("windows-line-ends", _tools(LONG, LONG.replace("\n", "\r\n")))
    yield Talk("no-newline-at-end", _tools(LONG, LONG.rstrip("\n")))
    yield Talk("two-files-alike", _tools(LONG, LONG.replace("value of", "worth of"), LONG))
    yield Talk("reverted", _tools(LONG, LONG.replace("step 3", "stage 3"), LONG), saves=True)
