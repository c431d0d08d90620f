"""What PageIndex's users see; run by test_stacks.py where PageIndex is."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pageindex
import pytest
from guides import run_blocks

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

import pageindex_reports

import contextpilot as cp
from contextpilot.integrations.pageindex import page_blocks

TITLES = ("Overview", "Segments", "Outlook")


def pdf() -> bytes:
    """Return a document of three pages, each with a large title and some lines."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(TITLES)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(TITLES)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for n, title in enumerate(TITLES):
        lines = "".join(
            f"0 -14 Td (Line {k} of {title}: margin, cash and orders.) Tj " for k in range(30)
        )
        drawn = f"BT /F1 24 Tf 60 760 Td ({title}) Tj /F1 10 Tf 0 -12 Td {lines}ET"
        objects += [
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents "
            f"{5 + 2 * n} 0 R /Resources << /Font << /F1 3 0 R >> >> >>",
            f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream",
        ]
    written, starts = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        starts.append(len(written))
        written += f"{number} 0 obj\n{content}\nendobj\n".encode()
    table = "".join(f"{start:010} 00000 n \n" for start in starts)
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer << /Size {size} /Root 1 0 R >>\n"
    return written + f"{end}startxref\n{len(written)}\n%%EOF\n".encode()


class Model(BaseHTTPRequestHandler):
    """Summarises whatever it is sent: indexing a PDF asks for summaries."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": "A summary."}
        body = {
            "id": "c", "object": "chat.completion", "created": 1, "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }  # fmt: skip
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def library(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[pageindex.PageIndexLocalClient, str]]:
    """A local client with one document in it, and the document's id."""
    folder = tmp_path_factory.mktemp("library")
    (folder / "report.pdf").write_bytes(pdf())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        base = f"http://127.0.0.1:{server.server_port}/v1"
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # else it asks the network
        patch.setenv("OPENAI_API_KEY", "none")
        patch.setenv("OPENAI_API_BASE", base)
        patch.setenv("OPENAI_BASE_URL", base)
        for name in ("NO_PROXY", "no_proxy"):
            patch.setenv(name, "127.0.0.1")
        patch.chdir(folder)
        settings = {"storage_path": folder / "store", "optimize": "off"}
        client = pageindex.PageIndexLocalClient(index={**settings, "summary_model": "openai/m"})
        yield client, client.submit_document(str(folder / "report.pdf"), wait=True)["doc_id"]
    server.shutdown()
    server.server_close()


def test_nodes_of_a_tree_made_without_a_model() -> None:
    blocks = pageindex_reports.trees()
    assert len({block.id for block in blocks}) == len(blocks) == 42
    cloud = next(block for block in blocks if block.source["title"] == "Cloud")
    label, text = cloud.text.split("\n", 1)
    assert label == "report-2023 > Report 2023 > Segments > Cloud"
    assert text == cloud.source["text"]
    assert cloud.id == f"report-2023#{cloud.source['node_id']}"


def test_trees_and_pages_of_a_client(
    library: tuple[pageindex.PageIndexLocalClient, str],
) -> None:
    client, document = library
    nodes = page_blocks(client.get_tree(document))
    assert nodes
    assert all(block.id.startswith(f"{document}#0") for block in nodes)
    outlines = page_blocks(client.get_document_structure(document), "report.pdf")
    assert all(", page" in block.text.split("\n")[0] for block in outlines)
    pages = page_blocks(client.get_page_content(document, "1-2"), "report.pdf")
    assert [block.id for block in pages] == ["report.pdf#page-1", "report.pdf#page-2"]
    assert "Line 29 of Segments" in pages[1].text


def test_answers_of_agent_tools(library: tuple[pageindex.PageIndexLocalClient, str]) -> None:
    client, _ = library
    tools: dict[str, Callable[..., str]] = {each.__name__: each for each in client.agent_tools()}
    pages = page_blocks(tools["get_page_content"](doc_name="report.pdf", pages="2-3"))
    assert [block.id for block in pages] == ["report.pdf#page-2", "report.pdf#page-3"]
    assert pages[0].text.startswith("report.pdf, page 2\n")
    outline = page_blocks(tools["get_document_structure"](doc_name="report.pdf"))
    assert all(block.id.startswith("report.pdf#0") for block in outline)
    with pytest.raises(ValueError, match="PageIndex found nothing"):
        page_blocks(tools["get_page_content"](doc_name="other.pdf", pages="1"))
    with pytest.raises(TypeError, match="found must be a tree"):
        page_blocks(tools["get_document"](doc_name="report.pdf"))


def test_an_agent_that_reads_pages_again_sends_them_once(
    library: tuple[pageindex.PageIndexLocalClient, str],
) -> None:
    client, _ = library
    read = next(each for each in client.agent_tools() if each.__name__ == "get_page_content")
    history: list[dict[str, object]] = [{"role": "user", "content": "What is the outlook?"}]
    for number, pages in enumerate(("1-2", "2-3", "1,3")):
        arguments = {"doc_name": "report.pdf", "pages": pages}
        function = {"name": "get_page_content", "arguments": json.dumps(arguments)}
        call = {"id": f"c{number}", "type": "function", "function": function}
        answer = {"role": "tool", "tool_call_id": f"c{number}", "content": read(**arguments)}
        history += [{"role": "assistant", "content": None, "tool_calls": [call]}, answer]
    sent = cp.ContextPilot().rewrite(history).messages
    assert sent[2] == history[2]
    assert len(json.dumps(sent)) < 0.75 * len(json.dumps(history))


def test_the_reports_hit_more_than_twice_as_often() -> None:
    given, planned = pageindex_reports.compare(pageindex_reports.questions(), None)
    assert planned > 2 * given > 0


def test_the_guides_code_runs() -> None:
    run_blocks("pageindex.md")
