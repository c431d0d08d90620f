"""Removes one defence after the other and runs its test: does it fail without?

    python scripts/remove_defences.py [--only WORD]

Each row changes one line in a copy of the code and runs the tests that `docs/security.md` names
for it. Fails when a test passes without its defence, or when a row's line is no longer there.
Needs the packages of .[test].
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from machine import machine_line

CHECKOUT = Path(__file__).resolve().parents[1]
COPIED = ("contextpilot", "hooks", "tests", "scripts", "pyproject.toml")


class Row(NamedTuple):
    """A defence: what it is against, the line in a file that is changed, and its test."""

    against: str
    file: str
    line: str
    changed: str
    test: str


_TIMEOUT_S = 120
SERVER = "contextpilot/server/"
ROWS = (
    Row(
        "a client's endless trailers",
        f"{SERVER}protocol.py",
        "if self._num_framing_bytes <= allowed:",
        "if True:",
        "tests/server/test_fuzz.py::test_endless_trailers_and_extensions_are_refused",
    ),
    Row(
        "clients that do not read",
        f"{SERVER}protocol.py",
        "            self.transport.abort()",
        "            pass",
        "tests/server/test_slow_clients.py::test_who_does_not_read_lets_the_engine_go",
    ),
    Row(
        "blank lines in place of a request",
        f"{SERVER}protocol.py",
        "(not self._is_in_request() and self._is_answer_due())",
        "not self._is_in_request()",
        "tests/server/test_slow_clients.py::test_blank_lines_are_no_request",
    ),
    Row(
        "another host in the target",
        f"{SERVER}protocol.py",
        'if self.url[:1] not in b"/*":',
        "if False:",
        "tests/server/test_one_protocol.py::test_what_can_be_read_in_two_ways_reaches_no_engine",
    ),
    Row(
        "other versions of HTTP",
        f"{SERVER}entry.py",
        'if scope["http_version"] not in _VERSIONS:',
        "if False:",
        "tests/server/test_one_protocol.py::test_what_can_be_read_in_two_ways_reaches_no_engine",
    ),
    Row(
        "tunnels through engines",
        f"{SERVER}entry.py",
        'if scope["method"] in _REFUSED_METHODS:',
        "if False:",
        "tests/server/test_one_protocol.py::test_what_can_be_read_in_two_ways_reaches_no_engine",
    ),
    Row(
        "chunks in HTTP/1.0",
        f"{SERVER}entry.py",
        'if codings and scope["http_version"] == "1.0":',
        "if False:",
        "tests/server/test_one_protocol.py::test_what_can_be_read_in_two_ways_reaches_no_engine",
    ),
    Row(
        "headers that gateways take for framing",
        f"{SERVER}proxy/outgoing.py",
        "(*_OWN_HEADERS, *_READ_AS_FRAMING)",
        "_OWN_HEADERS",
        "tests/server/test_one_protocol.py::"
        "test_headers_that_gateways_take_for_framing_go_no_further",
    ),
    Row(
        "bodies where no engine reads one",
        f"{SERVER}proxy/controls.py",
        "if body and method in _BODILESS:",
        "if False:",
        "tests/server/test_strangers.py::test_a_body_that_no_engine_reads_does_not_pass",
    ),
    Row(
        "thousands of requests without waiting for answers",
        f"{SERVER}protocol.py",
        "if len(self.pipeline) >= MAX_PIPELINED:",
        "if False:",
        "tests/server/test_pipelined.py::test_beyond_the_bound_none_is_taken_and_the_connection_ends",
    ),
    Row(
        "two hosts",
        f"{SERVER}entry.py",
        'if sum(name == b"host" for name, _ in scope["headers"]) > 1:',
        "if False:",
        "tests/server/test_one_protocol.py::test_what_can_be_read_in_two_ways_reaches_no_engine",
    ),
    Row(
        "codings of transfer that are not read",
        f"{SERVER}entry.py",
        'if any(coding.strip().lower() != b"chunked" for coding in codings):',
        "if False:",
        "tests/server/test_one_protocol.py::test_what_can_be_read_in_two_ways_reaches_no_engine",
    ),
    Row(
        "JSON of millions of parts",
        f"{SERVER}request_body.py",
        "if num_parts(body) > MAX_PARTS:",
        "if False:",
        "tests/server/test_json_parts.py::test_where_it_would_have_to_be_read_it_is_refused",
    ),
    Row(
        "templates that multiply what is filled in",
        "contextpilot/prompt/annotate.py",
        "> _MOST_FIELDS:",
        "> 10**9:",
        "tests/prompt/test_annotate.py::test_a_template_does_not_multiply_what_is_filled_in",
    ),
    Row(
        "a system message that a batch multiplies",
        f"{SERVER}index_api/router.py",
        "if told * len(body.queries) > most:",
        "if False:",
        "tests/server/test_json_parts.py::test_a_system_message_is_not_multiplied_beyond_a_body",
    ),
    Row(
        "parts of JSON that hide where nobody looks",
        "contextpilot/http/json_parts.py",
        "window = given[begin : begin + _WINDOW_BYTES]",
        "window = given[begin : begin + _WINDOW_BYTES : 7]",
        "tests/server/test_json_parts.py::test_parts_hide_nowhere",
    ),
    Row(
        "texts that an emoji makes four times as long",
        f"{SERVER}request_body.py",
        "parts_bytes + wide_bytes(body)",
        "parts_bytes",
        "tests/server/test_json_parts.py::test_wide_texts_count_towards_what_all_bodies_may_take",
    ),
    Row(
        "an index that others reach, without a token",
        f"{SERVER}run.py",
        "if settings.index_token or settings.open_index or is_loopback(settings.host):",
        "if True:",
        "tests/server/test_strangers.py::test_an_index_that_others_reach_has_a_token_by_default",
    ),
    Row(
        "paths that lead out of /v1",
        f"{SERVER}plain_path.py",
        "    return path",
        "    return path.replace('%', '')",
        "tests/server/test_strangers.py::test_no_path_leads_out_of_v1",
    ),
    Row(
        "the library's endpoint without its token",
        "contextpilot/endpoint.py",
        'if token and not hmac.compare_digest(given, f"Bearer {token}".encode()):',
        "if False:",
        "tests/test_endpoint.py::test_a_large_body_without_the_token_is_not_read",
    ),
    Row(
        "one tenant's content in another's plans",
        f"{SERVER}proxy/tenants.py",
        'digest = hashlib.sha256(b"\\0".join(keys)).hexdigest() if keys else None',
        "digest = None",
        "tests/server/test_isolation.py::test_content_of_one_tenant_decides_nothing_of_another",
    ),
    Row(
        "what time tells of another tenant's texts",
        "contextpilot/whose.py",
        "return _WHOSE.get()",
        'return ""',
        "tests/server/test_isolation.py::"
        "test_what_was_read_for_one_tenant_is_read_again_for_another",
    ),
    Row(
        "tenants named in trailers",
        f"{SERVER}protocol.py",
        "if self._is_in_head and not self._is_full:",
        "if not self._is_full:",
        "tests/server/test_tenants.py::test_a_trailer_is_no_header",
    ),
    Row(
        "tenants named in headers",
        f"{SERVER}proxy/tenants.py",
        "return _join(tenant, narrowed, own, *_engine_parts(body))",
        "return _join(narrowed or tenant, own, *_engine_parts(body))",
        "tests/server/test_tenants.py::test_nobody_joins_a_tenant_by_naming_it",
    ),
    Row(
        "names of megabytes that outlive their requests",
        f"{SERVER}proxy/tenants.py",
        "if len(part) > _MAX_PART_CHARS:",
        "if False:",
        "tests/server/test_tenants.py::test_names_without_end_are_not_kept",
    ),
    Row(
        "sessions that anybody can name",
        f"{SERVER}proxy/tenants.py",
        "isinstance(name, str) and _is_secret(name)]",
        "isinstance(name, str)]",
        "tests/server/test_state.py::test_names_that_may_be_shared_tell_no_session",
    ),
    Row(
        "bodies and paths that pass by the salt",
        f"{SERVER}proxy/incoming.py",
        "if not has_prompt(method, plain_path(path)):",
        "if True:",
        "tests/server/test_tenants.py::test_no_body_passes_by_the_salt",
    ),
    Row(
        "prompts that are never planned, without a salt",
        "contextpilot/prompt/apis/paths.py",
        'return method in ("POST", "PUT") and path.rstrip("/") in _NEVER_PLANNED',
        "return False",
        "tests/server/test_tenants.py::test_prompts_that_are_never_planned_are_salted_too",
    ),
    Row(
        "engines' addresses that swallow paths",
        "contextpilot/http/address.py",
        'if not is_plain or ".." in urllib.parse.unquote(address.path).split("/"):',
        "if False:",
        "tests/server/test_membership.py::test_unfit_engines_are_refused",
    ),
    Row(
        "engines without end",
        f"{SERVER}pool/engine_pool.py",
        "if len(before) >= MAX_ENGINES:",
        "if False:",
        "tests/server/test_membership.py::test_engines_have_a_bound",
    ),
    Row(
        "engines that lead back here",
        f"{SERVER}proxy/loops.py",
        "if any(name == _VIA and self._name in value for name, value in headers):",
        "if False:",
        "tests/server/test_loops.py::test_two_servers_that_are_each_others_engines_say_so",
    ),
    Row(
        "an engine's endless trailers",
        "contextpilot/http/response.py",
        "if self._num_framing_bytes > allowed and not self.is_complete:",
        "if False:",
        "tests/server/test_odd_engines.py::test_endless_trailers_and_extensions_end",
    ),
    Row(
        "an engine's chunks of one byte",
        "contextpilot/http/response.py",
        "        self._fed.append(chunk)\n",
        "        self._fed = [chunk]\n        self._take_fed()\n",
        "tests/server/test_upstream.py::test_chunks_that_come_at_once_are_one_piece",
    ),
    Row(
        "an engine's endless blanks",
        f"{SERVER}proxy/prompt_read.py",
        "self._rest = self._rest.lstrip()",
        "self._rest = self._rest",
        "tests/server/test_retraction.py::test_blanks_before_an_answer_are_not_kept",
    ),
    Row(
        "an engine's head in drops",
        "contextpilot/http/connection.py",
        "if not (was_in_head and answer is not None and answer.is_in_head):",
        "if True:",
        "tests/server/test_odd_engines.py::test_a_head_in_drops_is_not_waited_for",
    ),
    Row(
        "an engine's codings of transfer",
        "contextpilot/http/response.py",
        "if len(codings) > 1 or any(one.strip().lower() not in _READ_CODINGS for one in codings):",
        "if False:",
        "tests/server/test_odd_engines.py::test_an_answer_in_a_coding_that_is_not_read_is_an_error",
    ),
    Row(
        "results that an engine forges",
        f"{SERVER}proxy/relay.py",
        "if name.lower() != _RESULT",
        "if True",
        "tests/server/test_odd_engines.py::test_the_result_is_told_once_and_by_us",
    ),
    Row(
        "an engine's pages beside ours",
        f"{SERVER}proxy/relay.py",
        "        headers.append(_SANDBOX)",
        "        pass",
        "tests/server/test_odd_engines.py::test_a_page_of_an_engine_runs_nothing_beside_our_own",
    ),
    Row(
        "an engine's pages among other types",
        f"{SERVER}proxy/relay.py",
        'b"," not in content_type and ',
        "",
        "tests/server/test_odd_engines.py::test_a_page_of_an_engine_runs_nothing_beside_our_own",
    ),
    Row(
        "counts of thousands of digits",
        "contextpilot/engines/usage.py",
        "(\\d{1,15})(?![\\d.eE])",
        "(\\d+)",
        "tests/server/test_odd_engines.py::test_counts_of_thousands_of_digits_are_none",
    ),
    Row(
        "messages of engines that cannot be read",
        "contextpilot/sync/receiver.py",
        "            self._doubt(content)\n",
        "",
        "tests/server/test_sync_route.py::"
        "test_who_cannot_be_read_is_not_believed_until_its_next_snapshot",
    ),
    Row(
        "points without end",
        "contextpilot/held.py",
        "self._num_request_blocks += len(points) - len(request.points)",
        "pass",
        "tests/test_index_points.py::test_points_count_towards_what_is_kept_of_requests",
    ),
    Row(
        "slots without end",
        "contextpilot/sync/events.py",
        "if number >= MAX_SLOTS:",
        "if False:",
        "tests/sync/test_events.py::test_slots_have_a_bound",
    ),
    Row(
        "keys and ids without end",
        "contextpilot/jobs.py",
        "if isinstance(key, str) and len(key) <= _MAX_HEX_CHARS:",
        "if isinstance(key, str):",
        "tests/test_jobs_bounds.py::test_what_is_beyond_the_bounds_is_no_job",
    ),
    Row(
        "a hostile publisher's parents",
        "contextpilot/sync/sources/kv_events/wire.py",
        "if parent is not None and not _is_hash(parent):",
        "if False:",
        "tests/sync/test_kv_chains.py::test_what_is_no_event_is_an_error",
    ),
    Row(
        "a publisher's millions of empty lists",
        "contextpilot/sync/sources/kv_events/wire.py",
        "if len(payload) <= _SHORT_BYTES:",
        "if True:",
        "tests/sync/test_kv_chains.py::test_a_million_empty_lists_are_not_made",
    ),
    Row(
        "a publisher's endless frames",
        "contextpilot/sync/sources/kv_events/intake.py",
        "return self._waiting_bytes() > MAX_WAITING_BYTES",
        "return False",
        "tests/sync/test_kv_hostile.py::test_a_message_without_end_is_cut_off",
    ),
    Row(
        "an endless replay",
        "contextpilot/sync/sources/kv_events/subscriber.py",
        "> 0 and not intake.is_too_much():",
        "> 0:",
        "tests/sync/test_kv_hostile.py::test_a_replay_without_end_is_cut_off",
    ),
    Row(
        "an end of a prompt that is gone, and believed",
        "hooks/contextpilot_hooks/chain.py",
        "shrunk=bool(missing) and _goes_through(chain, missing)",
        "shrunk=False",
        "tests/hooks/test_chain.py::test_a_tail_that_went_before_anybody_looked_is_told",
    ),
    Row(
        "an index whose answers never end, at the hooks",
        "hooks/contextpilot_hooks/transport.py",
        "if self._left <= 0 or time.monotonic() > self._until:",
        "if False:",
        "tests/hooks/test_transport.py::test_an_answer_without_end_is_none",
    ),
    Row(
        "names that lead to this machine",
        "contextpilot/http/callers.py",
        "if len(host) > _MAX_CHARS or not self._is_allowed(host):",
        "if False:",
        "tests/server/test_strangers.py::test_a_name_that_is_not_ours_is_refused",
    ),
    Row(
        "web pages that post plain text",
        "contextpilot/http/callers.py",
        "if kind in _UNASKED_TYPES and not self._is_allowed_origin(origin):",
        "if False:",
        "tests/server/test_strangers.py::test_a_page_of_another_place_posts_nothing_unasked",
    ),
    Row(
        "keys with a line end, in the log",
        "contextpilot/http/keys.py",
        "key = key.strip()",
        "pass",
        "tests/http/test_keys.py::test_a_line_end_is_no_part_of_a_key",
    ),
    Row(
        "headers that cannot be sent, in the log",
        "contextpilot/http/blocking.py",
        "if isinstance(error, InvalidHeader):",
        "if False:",
        "tests/http/test_keys.py::test_a_header_that_cannot_be_sent_is_not_shown",
    ),
    Row(
        "a header that becomes two",
        "contextpilot/http/connection.py",
        'if lines.count(b"\\n") != len(headers) or lines.count(b"\\r") != len(headers):',
        "if False:",
        "tests/http/test_keys.py::test_a_header_never_becomes_two",
    ),
    Row(
        "a state file that others may write",
        f"{SERVER}proxy/state_file.py",
        "        if others_write or told",
        "        if told",
        "tests/server/test_state.py::test_what_another_user_may_have_written_is_not_believed",
    ),
    Row(
        "what others planted beside a state file",
        f"{SERVER}proxy/state_file.py",
        "    _refuse_anothers(os.lstat(file) for file in beside if os.path.lexists(file))",
        "",
        "tests/server/test_state.py::test_what_another_user_planted_beside_it_is_not_believed",
    ),
    Row(
        "a state file in which something runs",
        f"{SERVER}proxy/state_file.py",
        "            _check_schema(file)\n",
        "",
        "tests/server/test_state.py::test_a_file_that_does_more_than_keep_orders_is_not_used",
    ),
    Row(
        "orders of a million blocks, kept in memory",
        "contextpilot/prompt/conversation/written_orders.py",
        "self._num_ranks > self._max_ranks and",
        "False and",
        "tests/server/test_state.py::test_orders_of_many_blocks_count_by_their_ranks",
    ),
    Row(
        "orders of a million blocks, on the disk",
        f"{SERVER}proxy/state_file.py",
        "is_short = len(order) <= _MAX_RANKS",
        "is_short = True",
        "tests/server/test_state.py::test_orders_of_many_blocks_count_by_their_ranks",
    ),
    Row(
        "an order that is none",
        "contextpilot/prompt/conversation/found_blocks.py",
        "if order is None or sorted(order) != list(range(len(known))):",
        "if order is None:",
        "tests/server/test_state.py::test_an_order_that_is_none_loses_no_document",
    ),
    Row(
        "a library for llama-server that others may write",
        "contextpilot/llama_server/compiler.py",
        "if found.st_uid != os.getuid() or others_write:",
        "if False:",
        "tests/llama_server/test_launcher.py::test_what_another_user_may_have_planted_is_not_run",
    ),
    Row(
        "prices that take time with the square",
        "contextpilot/plan/price.py",
        "if len(relevance) >= _MANY else []",
        "if False else []",
        "tests/plan/test_price.py::"
        "test_displacement_of_many_blocks_is_the_same_and_takes_no_time_with_the_square",
    ),
    Row(
        "more lists than may be looked around",
        "contextpilot/prompt/extract/look.py",
        "if len(found) >= most:",
        "if len(found) >= MAX_REQUEST_GROUPS:",
        "tests/prompt/test_extract_time.py::"
        "test_only_the_first_lists_of_a_very_long_conversation_are_planned",
    ),
)


def verdict(row: Row, copy: Path) -> str:
    """Return what the row's test says of the code without its defence."""
    file = copy / row.file
    text = file.read_text()
    if text.count(row.line) < 1:
        return "the line is no longer there"
    file.write_text(text.replace(row.line, row.changed, 1))
    paths = os.pathsep.join([str(copy), str(copy / "hooks")])
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", row.test]
    try:
        done = subprocess.run(
            command,
            cwd=copy,
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return "noticed"  # it hangs
    finally:
        file.write_text(text)
    return {0: "NOT NOTICED", 1: "noticed"}.get(done.returncode, "no test was run")


def main() -> int:
    """Print a line a row; 1 if a test passes without its defence."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="", help="rows that have this in them")
    only: str = parser.parse_args().only
    print(machine_line("pytest"), flush=True)
    rows = [row for row in ROWS if only in str(row)]
    num_noticed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            source = CHECKOUT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
        for row in rows:
            said = verdict(row, copy)
            num_noticed += said == "noticed"
            print(f"  {said:<12} without what is against {row.against}", flush=True)
    print(f"{num_noticed} of {len(rows)} noticed")
    return 0 if num_noticed == len(rows) else 1


if __name__ == "__main__":
    import plainly

    plainly.run(main)
