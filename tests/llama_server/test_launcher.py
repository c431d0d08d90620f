"""The launcher: what it injects, what it refuses and why, and that llama-server starts anyway."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import contextpilot as cp
from contextpilot.llama_server.compiler import LIBRARY, shim_library
from contextpilot.llama_server.hello import Watched, wait_for_hello
from contextpilot.llama_server.launcher import find_binary, launch, prepare
from contextpilot.llama_server.linkage import check_linkage
from contextpilot.llama_server.refusal import InjectionError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="builds ELF programs")

NOWHERE = "http://127.0.0.1:9"


def cc(*arguments: str | Path) -> None:
    subprocess.run(["cc", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Programs that use libllama: through another library, from within, and an older one."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler")
    folder = tmp_path_factory.mktemp("built")
    for name, symbol in (("new", "llama_memory_seq_rm"), ("old", "llama_kv_self_seq_rm")):
        into = folder / name
        into.mkdir()
        (into / "llama.c").write_text(f"int {symbol}(void) {{ return 1; }}\n")
        (into / "impl.c").write_text(f"int {symbol}(void); int run(void) {{ return {symbol}(); }}")
        (into / "main.c").write_text("int run(void); int main(void) { return run() != 1; }")
        here = ("-L", into, "-Wl,-rpath,$ORIGIN")
        cc("-shared", "-fPIC", "-o", into / "libllama.so", into / "llama.c")
        cc("-shared", "-fPIC", "-o", into / "libimpl.so", into / "impl.c", *here, "-lllama")
        indirect = ("-Wl,-rpath-link," + str(into),)
        cc("-o", into / "llama-server", into / "main.c", *here, *indirect, "-limpl")
    sources = [folder / "new" / f"{name}.c" for name in ("main", "impl", "llama")]
    cc("-o", folder / "joined", *sources)
    cc("-static", "-o", folder / "static", *sources)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def environ(built: Path, cache: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "XDG_CACHE_HOME": str(cache),
        "LLAMA_SERVER_BIN": str(built / "new" / "llama-server"),
        "CONTEXTPILOT_INDEX_URL": NOWHERE,
    }


# -- what can be injected --------------------------------------------------------------------------


def test_libllama_is_found_behind_other_libraries(built: Path) -> None:
    found = check_linkage(built / "new" / "llama-server", os.environ)
    assert found.resolve() == (built / "new" / "libllama.so").resolve()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("joined", "does not use a shared libllama: build llama.cpp with"),
        ("static", "does not use a shared libllama: build llama.cpp with"),
        ("old/llama-server", "has no llama_memory_seq_rm: this version"),
    ],
)
def test_what_cannot_be_intercepted_is_refused(built: Path, name: str, reason: str) -> None:
    with pytest.raises(InjectionError, match=reason):
        check_linkage(built / name, os.environ)


def test_scripts_and_setuid_programs_are_refused(built: Path, tmp_path: Path) -> None:
    script = tmp_path / "llama-server"
    script.write_text("#!/bin/sh\n")
    with pytest.raises(InjectionError, match="set LLAMA_SERVER_BIN to llama-server itself"):
        check_linkage(script, os.environ)
    shutil.copy(built / "new" / "llama-server", script)
    script.chmod(script.stat().st_mode | stat.S_ISUID)
    with pytest.raises(InjectionError, match="setuid"):
        check_linkage(script, os.environ)


# -- the compiled shim -----------------------------------------------------------------------------


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for PATH whose g++ counts its compilations."""
    folder = tmp_path / "tools"
    folder.mkdir()
    real = shutil.which("g++") or shutil.which("c++")
    if real is None:
        pytest.skip("needs a C++ compiler")
    script(folder / "g++", f'[ "$1" = --version ] || echo x >> {folder}/runs\nexec {real} "$@"')
    return folder


def script(path: Path, lines: str) -> None:
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)


def test_the_shim_is_compiled_once_however_many_start(tools: Path, tmp_path: Path) -> None:
    environ = {"PATH": f"{tools}:/usr/bin:/bin", "XDG_CACHE_HOME": str(tmp_path)}
    script(tools / "clang++", "echo no such standard >&2; echo error: broken >&2; exit 1")
    with ThreadPoolExecutor(4) as threads:
        found = set(threads.map(lambda _: shim_library(environ), range(4)))
    assert len(found) == 1
    assert (tools / "runs").read_text() == "x\n"
    assert [path.suffix for path in tmp_path.rglob("*.part")] == []
    script(tools / "g++", "echo another version")
    with pytest.raises(InjectionError, match=r"does not compile: .*clang\+\+: error: broken"):
        shim_library({**environ, "PATH": str(tools)})


def test_a_missing_compiler_is_named(tmp_path: Path) -> None:
    with pytest.raises(InjectionError, match=r"no C\+\+ compiler .*install g\+\+ or clang"):
        shim_library({"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)})


@pytest.mark.parametrize(
    "planted", ["file of others", "link", "folder is a link", "lock is a link"]
)
def test_what_another_user_may_have_planted_is_not_run(tmp_path: Path, planted: str) -> None:
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    library = shim_library(environ)
    victim = tmp_path / "victim"
    victim.write_text("mine")
    if planted == "file of others":
        library.chmod(0o777)
    elif planted == "link":
        library.rename(tmp_path / "elsewhere")
        library.symlink_to(tmp_path / "elsewhere")
    elif planted == "folder is a link":
        library.parent.rename(tmp_path / "elsewhere")
        library.parent.symlink_to(tmp_path / "elsewhere")
    else:
        library.unlink()
        lock = library.with_suffix(".lock")
        lock.unlink()
        lock.symlink_to(victim)
    with pytest.raises(InjectionError, match=r"remove it|cannot be stored"):
        shim_library(environ)
    assert victim.read_text() == "mine"


def test_a_folder_that_others_may_write_is_closed(tmp_path: Path) -> None:
    environ = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    folder = shim_library(environ).parent
    folder.chmod(0o777)
    shim_library(environ)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_cache_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "contextpilot").write_text("a file")
    with pytest.raises(InjectionError, match="cannot be stored in"):
        shim_library({"PATH": os.environ["PATH"], "XDG_CACHE_HOME": str(tmp_path)})


# -- starting --------------------------------------------------------------------------------------


def test_without_an_index_nothing_is_touched(environ: dict[str, str]) -> None:
    del environ["CONTEXTPILOT_INDEX_URL"]
    prepared = prepare(["--port", "1"], environ)
    assert (prepared.environ, prepared.watched, prepared.problem) == (environ, None, None)


@pytest.mark.slow
def test_the_shim_is_added_to_what_is_preloaded(environ: dict[str, str]) -> None:
    environ["LD_PRELOAD"] = "/lib/other.so"
    prepared = prepare(["--port", "1234", "--host", "0.0.0.0"], environ)
    assert prepared.problem is None
    assert prepared.environ["LD_PRELOAD"].startswith(f"/lib/other.so:{environ['XDG_CACHE_HOME']}")
    assert prepared.environ["CONTEXTPILOT_ENGINE_ID"].endswith("-1234")
    assert prepared.watched == Watched(0, NOWHERE, "", "http://127.0.0.1:1234")
    again = prepare([], prepared.environ)
    assert again.environ["LD_PRELOAD"].count(LIBRARY) == 1


@pytest.mark.slow
def test_a_path_that_preload_cannot_name_is_refused(
    environ: dict[str, str], tmp_path: Path
) -> None:
    environ["XDG_CACHE_HOME"] = str(tmp_path / "a b")
    assert "XDG_CACHE_HOME" in (prepare([], environ).problem or "")


def test_the_binary_is_named_or_found_in_path(built: Path, tmp_path: Path) -> None:
    assert find_binary({"PATH": str(built / "new")}) == built / "new" / "llama-server"
    with pytest.raises(FileNotFoundError, match="not in PATH: install llama"):
        find_binary({"PATH": str(tmp_path)})
    with pytest.raises(FileNotFoundError, match=r"LLAMA_SERVER_BIN is .*not an executable program"):
        find_binary({"PATH": str(built), "LLAMA_SERVER_BIN": str(tmp_path / "gone")})


def command(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "contextpilot.llama_server", *arguments]
    return subprocess.run(line, env=environ, capture_output=True, text=True, check=False)


def test_the_plain_server_starts_where_the_shim_cannot(
    environ: dict[str, str], tmp_path: Path
) -> None:
    server = tmp_path / "llama-server"
    script(server, 'echo "$@" "preload=$LD_PRELOAD"; exit 3')
    done = command({**environ, "LLAMA_SERVER_BIN": str(server)}, "--port", "1", "a b")
    assert (done.returncode, done.stdout) == (3, "--port 1 a b preload=\n")
    assert done.stderr.count("\n") == 1
    assert "llama-server starts without the shim" in done.stderr


def test_the_command_becomes_the_server_with_the_shim(environ: dict[str, str]) -> None:
    done = command(environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_help_answers_by_itself_and_lets_the_server_tell_its_flags(
    environ: dict[str, str], tmp_path: Path
) -> None:
    done = command({**environ, "LLAMA_SERVER_BIN": str(tmp_path / "gone")}, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: contextpilot-llama-server [llama-server's flags]\n")
    assert "CONTEXTPILOT_INDEX_URL=http://127.0.0.1:8765" in done.stdout
    assert "its own flags are not shown" in done.stdout
    assert max(map(len, done.stdout.partition("\nLLAMA_SERVER_BIN is")[0].splitlines())) <= 60
    server = tmp_path / "llama-server"
    script(server, 'echo "its flags: $@"')
    done = command({**environ, "LLAMA_SERVER_BIN": str(server)}, "-h")
    assert done.stdout.endswith("says:\n\nits flags: --help\n")


def test_a_missing_server_is_an_error(environ: dict[str, str], tmp_path: Path) -> None:
    done = command({**environ, "LLAMA_SERVER_BIN": str(tmp_path / "gone")})
    assert done.returncode == 127
    assert "LLAMA_SERVER_BIN" in done.stderr


# -- whether it reports ----------------------------------------------------------------------------


def test_a_silent_shim_is_told_of() -> None:
    with cp.ContextPilot(listen="127.0.0.1:0") as pilot:
        watched = Watched(os.getpid(), pilot.index_url or "", "", NOWHERE)
        assert "has not reported" in (wait_for_hello(watched, lambda: True, 0.3) or "")
        absent = watched._replace(index_url=NOWHERE)
        assert "does not answer" in (wait_for_hello(absent, lambda: True, 0.3) or "")
        below = watched._replace(index_url=f"{pilot.index_url}/v1")
        assert "without /v1" in (wait_for_hello(below, lambda: True, 0.3) or "")
        ended = wait_for_hello(watched, lambda: False, 0.3)
        assert ended == "llama-server has ended"


class _OfAnEngine(BaseHTTPRequestHandler):
    """Answers as llama-server does, at /v1/health as well."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "15")
        self.end_headers()
        self.wfile.write(b'{"status":"ok"}')

    def log_message(self, *_: object) -> None:
        pass


def test_an_address_of_no_index_is_told_of() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _OfAnEngine) as engine:
        threading.Thread(target=engine.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{engine.server_address[1]}"
        watched = Watched(os.getpid(), url, "", NOWHERE)
        told = wait_for_hello(watched, lambda: True, 0.3) or ""
        assert told == f"{url} is no index; the shim keeps trying"
        told = wait_for_hello(watched._replace(index_url=url + "/v1"), lambda: True, 0.3) or ""
        assert "is no index (an index is at the URL without /v1)" in told
        engine.shutdown()


def test_the_watch_needs_the_standard_library_alone() -> None:
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['requests', 'urllib3', 'httptools']))\n"
        "from contextpilot.llama_server.hello import Watched, wait_for_hello\n"
        f"print(wait_for_hello(Watched(1, {NOWHERE!r}, '', {NOWHERE!r}), lambda: True, 0.3))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "does not answer" in done.stdout


def test_launch_tells_why_a_server_will_not_report(environ: dict[str, str], built: Path) -> None:
    server = launch([], environ={**environ, "LLAMA_SERVER_BIN": str(built / "static")})
    assert server.process.wait() == 0
    assert "does not use a shared libllama" in (server.problem or "")
    assert not server.is_synced
