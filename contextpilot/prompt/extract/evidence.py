"""What declares a list of blocks movable, and what forbids it: the table that all else reads.

To extend it: add a rule here, its words in `vocabulary`, and a case to `tests/corpus`. The first
rule against that applies is told; without a rule for, nothing moves.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Side: TypeAlias = Literal["for", "against"]


class Rule(NamedTuple):
    """One reason, and what it is called in `X-ContextPilot-Result`, logs and docs."""

    code: str
    side: Side
    words: str
    example: str


_TABLE: tuple[tuple[str, Side, str, str], ...] = (
    # -- what says that blocks are independent documents found by a search
    ("document-tags", "for", "sibling elements of a document tag", "<document>, <doc>, <source>"),
    ("wrapper", "for", "they are in an element for retrieved documents", "<search_results>"),
    ("cue", "for", "a sentence or heading announces them", "Use the following documents:"),
    ("labels", "for", "each is called a document", "Document 1:, Passage 2:, Source ID: 3"),
    ("question-after", "for", "[n] paragraphs from the start, then a question", "Question: ..."),
    ("search-tool", "for", "the result of a search tool", "web_search, retrieve"),
    ("scores", "for", "each row has a relevance score", '"score": 0.83'),
    ("declared-search", "for", "scored rows next to their query", '{"query": ..., "results": []}'),
    ("search-records", "for", "each has the fields of a search hit", "Title: ... URL: ..."),
    ("search-parts", "for", "parts of type document or search_result", "Anthropic content"),
    ("search-images", "for", "images announced as search results", "Retrieved pages:"),
    ("files-listed", "for", "files listed one after another by path", "files-to-prompt"),
    ("files-added", "for", "an agent says that it added these files", "aider"),
    ("chosen-pages", "for", "pages out of order, as a search chose them", '"page": 51'),
    ("mode", "for", "the caller named the form", "X-ContextPilot-Mode: xml"),
    # -- what says that they are not, or that their order or numbers are used
    ("no-evidence", "against", "nothing shows that they are documents found by a search", ""),
    (
        "file",
        "against",
        "a tool read them from a file, or a file is pasted",
        "read_file, my feed.xml:",
    ),
    ("command-output", "against", "a command printed them", "bash, grep, run_sql"),
    ("sequence-tool", "against", "the tool returns a sequence or records", "get_transcript"),
    ("introduced-as-sequence", "against", "they are announced as a sequence", "the transcript:"),
    ("speakers", "against", "they are turns of a conversation", "Agent: ..."),
    ("times", "against", "they are in chronological order", "[00:12], 2025-03-01, From:/Date:"),
    ("counted", "against", "they are pages, steps, articles, clauses", "Page 3, Step 2, § 4"),
    ("continued", "against", "one continues another", "(continued)"),
    ("row-fields", "against", "rows have a position, page, step, role or state", '"rank": 1'),
    ("rank-untold", "against", "their rank would be lost after a move", "rows in a string"),
    ("elements", "against", "they are page elements that actions name", "[3]<a ...>"),
    ("listing", "against", "lines have line numbers, or are a to-do list", "  12\tdef f():"),
    ("document-file", "against", "they are sections of one text", "# Title ... --- ... ## Part"),
    (
        "position-asked",
        "against",
        "the prompt refers to them by position",
        "the second document, the last",
    ),
    ("number-asked", "against", "the prompt names them by number", "document 3, 1 and 4, [2]"),
    (
        "order-asked",
        "against",
        "the answer follows their order",
        "one score per line",
    ),
    (
        "question-unsure",
        "against",
        "the question may depend on an order, or is not about the blocks",
        "start from the bottom",
    ),
    (
        "forged",
        "against",
        "a block contains tags, labels or notes of its own",
        "</document> inside",
    ),
    (
        "labels-unsure",
        "against",
        "their numbers repeat or have gaps, or labels follow their blocks",
        "index 1, 2, 2, 9",
    ),
    (
        "given-back",
        "against",
        "the prompt comes back with the answer, or is cut",
        "echo, prompt_logprobs, truncate_prompt_tokens",
    ),
    ("too-many", "against", "too many lists in one message, or blocks in one list", ""),
    ("cited", "against", "the API counts them, or a cache breakpoint marks one", "citations"),
)
RULES = {row[0]: Rule(*row) for row in _TABLE}


class Left(NamedTuple):
    """A list that was found and left as it is.

    Attributes:
        form: how its blocks are set off: xml, numbered, json ...
        blocks: how many there are.
        code: the rule of the table that says why.
    """

    form: str
    blocks: int
    code: str

    @property
    def words(self) -> str:
        """The reason in plain words."""
        return RULES[self.code].words


def table() -> str:
    """Return the table as Markdown, as the docs show it."""
    lines = ["| code | | what it means | for example |", "|---|---|---|---|"]
    for rule in RULES.values():
        sign = "moves" if rule.side == "for" else "stays"
        example = f"`{rule.example}`" if rule.example else ""
        lines.append(f"| `{rule.code}` | {sign} | {rule.words} | {example} |")
    return "\n".join(lines)
