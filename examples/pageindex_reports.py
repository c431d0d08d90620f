"""Questions over reports that PageIndex turned into trees: python examples/pageindex_reports.py

Three Markdown reports become trees without a model. A search over titles and texts, in place of the
model that would walk a tree, chooses eight nodes per question. Prints how much of the prompts a
prefix cache holds, as the search ranks the nodes and planned; with `--engine
http://127.0.0.1:8000`, what a running engine counts, and its time to first token.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import re
import tempfile
from pathlib import Path

from measure import Turn, compare, engine_from_command_line
from pageindex import md_to_tree

from contextpilot.integrations.pageindex import PageBlock, page_blocks

SECTIONS = {
    "Segments": ("Cloud", "Devices", "Services"),
    "Financials": ("Revenue", "Margin", "Cash flow", "Debt"),
    "Outlook": ("Guidance", "Risks", "Investments"),
}
WORDS = ["revenue", "margin", "growth", "cash", "guidance", "tax", "cost", "plant", "price", "debt"]
FORMS = (
    "How did {a} develop in the {topic} of {year}, and what did {b} have to do with it?",
    "What does the report of {year} say about {topic} and {a}?",
    "Compare {topic} and {a} with {b} in {year}.",
)


def report(year: int) -> str:
    """Return a report in Markdown, with made-up paragraphs."""
    chance = random.Random(year)

    def paragraph(title: str) -> str:
        sentences = [" ".join(chance.choices(WORDS, k=12)) for _ in range(6)]
        return f"{title} in {year}: " + ". ".join(sentences) + "."

    lines = [f"# Report {year}"]
    for section, parts in SECTIONS.items():
        lines += [f"## {section}", paragraph(section)]
        for part in parts:
            lines += [f"### {part}", paragraph(part)]
    return "\n\n".join(lines)


def trees() -> list[PageBlock]:
    """Return the nodes of all reports as blocks."""
    blocks = []
    for year in (2023, 2024, 2025):
        path = Path(tempfile.mkdtemp()) / f"report-{year}.md"
        path.write_text(report(year), encoding="utf-8")
        with contextlib.redirect_stdout(io.StringIO()):  # it tells what it does
            tree = asyncio.run(md_to_tree(str(path), if_add_node_text="yes"))
        blocks += page_blocks(tree)
    return blocks


def search(blocks: list[PageBlock], question: str, count: int = 8) -> list[PageBlock]:
    """Return the nodes that share most with the question, the best first."""
    words = set(re.findall(r"\w+", question.lower()))

    def shared(block: PageBlock) -> float:
        label, _, text = block.text.lower().partition("\n")
        found = re.findall(r"\w+", text)
        in_label = len(words & set(re.findall(r"\w+", label)))
        return -(4 * in_label + 40 * sum(map(words.__contains__, found)) / (len(found) + 40))

    return sorted(blocks, key=shared)[:count]


def questions(count: int = 40) -> list[Turn]:
    """Return questions, and the nodes that were found for each."""
    blocks, chance, turns = trees(), random.Random(2), []
    topics = [topic for parts in SECTIONS.values() for topic in parts]
    for _ in range(count):
        a, b = chance.sample(WORDS, 2)
        year, topic = chance.choice((2023, 2024, 2025)), chance.choice(topics)
        question = chance.choice(FORMS).format(a=a, b=b, topic=topic, year=year)
        turns.append(Turn(question, search(blocks, question)))
    return turns


if __name__ == "__main__":
    compare(questions(), engine_from_command_line("Questions over trees of PageIndex."))
