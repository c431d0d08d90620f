"""PageIndex: nodes of a tree, pages, and what its agent tools answer, as blocks with stable ids.

    from contextpilot.integrations.pageindex import page_blocks

    tree = await md_to_tree("report.md", if_add_node_text="yes")
    blocks = page_blocks(tree, nodes=["0007", "0003"])  # what the search chose, best first
    messages = pilot.optimize(blocks, question)
    blocks[messages.order[0]].id  # "report#0007"

Written against PageIndex 0.4; nothing of PageIndex is imported.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_TEXTS = ("text", "markdown", "summary", "prefix_summary")
_LISTS = ("structure", "result", "content")
"""Members in which trees, answers of the API and answers of tools hold their nodes or pages."""


@dataclass(frozen=True)
class PageBlock:
    """A node or page of a document.

    Attributes:
        id: document and node, or document and page: `report#0007`, `report#page-3`.
        text: what a prompt shows: the document, the titles above, the pages, then the content. A
            node that moves still says where it belongs.
        source: the node (with the nodes below it) or page, as PageIndex returned it.
    """

    id: str
    text: str
    source: Mapping[str, Any]


def page_blocks(
    found: Any, document: str | None = None, *, nodes: Iterable[str] | None = None
) -> list[PageBlock]:
    """Return the nodes of a tree, each without those below it, or pages, as blocks for `optimize`.

    Args:
        found: a tree (of `md_to_tree`, `page_index_flash`, `get_tree`, `get_document_structure`),
            pages (of `get_page_content`), or the JSON text of an agent tool.
        document: names the document in ids and texts. Default: the name or id that `found` holds.
        nodes: ids of the nodes to return, the most relevant first. Default: all, as they stand.

    Raises:
        TypeError: `found` is none of these.
        ValueError: a tool reports an error, a node has no text, `nodes` names one that is not
            there, or the document has no name.
    """
    answer = _parsed(found)
    entries = _entries(answer)
    name = document or _document_of(answer)
    blocks = list(_blocks(entries, name, ()))
    if nodes is None:
        return blocks
    known = {block.id.removeprefix(f"{name}#"): block for block in blocks}
    return [_known(known, node, name) for node in nodes]


def _parsed(found: Any) -> Any:
    if not isinstance(found, str):
        return found
    try:
        answer = json.loads(found)
    except ValueError:
        raise TypeError("found is a text, and not the JSON that PageIndex's tools return") from None
    if isinstance(answer, Mapping) and "error" in answer:
        raise ValueError(f"PageIndex found nothing: {answer['error']}")
    return answer


def _document_of(answer: Any) -> str:
    names = [answer.get(key) for key in ("doc_name", "doc_id")] if _is_row(answer) else []
    found = next((name for name in names if isinstance(name, str) and name), None)
    if found is None:
        raise ValueError("document is missing: node ids are unique only within a document, name it")
    return found


def _entries(answer: Any) -> Sequence[Mapping[str, Any]]:
    """Return the list of nodes or pages."""
    lists = [answer.get(key) for key in _LISTS] if _is_row(answer) else [answer]
    entries = next((each for each in lists if isinstance(each, list)), None)
    if entries is None or not all(map(_is_row, entries)):
        raise TypeError(
            "found must be a tree, pages or a tool's answer of PageIndex: a list of nodes or pages,"
            f" or a dictionary that holds it as one of {', '.join(_LISTS)}"
        )
    return entries


def _blocks(
    entries: Sequence[Mapping[str, Any]], document: str, above: tuple[str, ...]
) -> Iterator[PageBlock]:
    for entry in entries:
        titles = (*above, str(entry["title"])) if entry.get("title") else above
        page = entry.get("page_index", entry.get("page"))
        node, below = entry.get("node_id"), entry.get("nodes") or ()
        text = next((entry[key] for key in _TEXTS if isinstance(entry.get(key), str)), None)
        identity = node if node is not None else f"page-{page}"
        if node is None and page is None:
            raise TypeError(f"{document} holds an entry with neither node_id nor page: {titles}")
        if text is None and not below:
            raise ValueError(
                f"node {identity} of {document} has no text: build the tree with its text "
                "(if_add_node_text='yes', include_text=True), or pass its pages"
            )
        if text is not None:  # else a heading, which stands above each of those below
            label = f"{' > '.join((document, *titles))}{_pages(entry, page)}"
            yield PageBlock(f"{document}#{identity}", f"{label}\n{text}", entry)
        yield from _blocks(below, document, titles)


def _pages(entry: Mapping[str, Any], page: Any) -> str:
    start, end = entry.get("start_index", page), entry.get("end_index", page)
    if start is None:
        return ""
    return f", page {start}" if end in (None, start) else f", pages {start} to {end}"


def _known(blocks: Mapping[str, PageBlock], node: str, document: str) -> PageBlock:
    found = blocks.get(node)
    if found is None:
        raise ValueError(f"nodes names {node!r}, which {document} does not hold")
    return found


def _is_row(value: Any) -> bool:
    return isinstance(value, Mapping)
