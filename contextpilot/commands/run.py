"""`contextpilot run -- AGENT ...`: an agent behind a proxy of its own, and what that saved."""

from __future__ import annotations

import argparse
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from contextpilot.agents.known import (
    CLOUDS,
    Launch,
    launch,
    program_name,
    upstreams,
    where_to_put,
)
from contextpilot.commands.command import Command, Outcome
from contextpilot.errors import CommandError
from contextpilot.server.settings import Settings, load_settings
from contextpilot.tables import terminal_width, wrap

if TYPE_CHECKING:
    from contextpilot.agents.session import Session

_SIGNALLED = 128
_T = TypeVar("_T")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine",
        metavar="URL",
        help="the model's base URL; default: where the agent's variables point, or else its cloud",
    )
    parser.add_argument(
        "--port", type=int, default=0, metavar="PORT", help="port of the proxy; 0 takes a free one"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the summary there")
    parser.add_argument("--log", type=Path, metavar="FILE", help="write the proxy's log there")
    parser.add_argument("--quiet", action="store_true", help="print no summary")
    parser.add_argument(
        "agent", nargs=argparse.REMAINDER, metavar="-- AGENT ...", help="the agent, as typed"
    )


def _run(args: argparse.Namespace) -> Outcome:
    command = args.agent[1:] if args.agent[:1] == ["--"] else args.agent
    if not command:
        raise CommandError("name the agent, for example: contextpilot run -- claude")
    from contextpilot.agents.session import Session

    if args.json is not None:
        _check_writable(args.json)
    _send_logs_to(args.log)
    session = Session()
    with _proxies(args, session) as urls:
        status = _supervise(launch(command, os.environ, urls))
    told = session.as_dict(program_name(command[0]))
    with suppress(OSError):  # the terminal may be gone, the file is there all the same
        if args.json is not None:
            _write(args.json, told)
        if not args.quiet:
            _tell(told, status, where_to_put(command[0], urls))
    return Outcome("", status)


def _check_writable(path: Path) -> None:
    """Raise CommandError where the summary would be lost: the agent may run for hours."""
    if not path.parent.is_dir():
        raise CommandError(f"--json: there is no folder {path.parent}")
    if path.is_dir():
        raise CommandError(f"--json: {path} is a folder: name a file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise CommandError(f"--json: {path} cannot be written")


def _write(path: Path, session: dict[str, Any]) -> None:
    """Write a session's counts; what fails is said, and leaves the exit status the agent's."""
    try:
        path.write_text(json.dumps(session, indent=2) + "\n", "utf-8")
    except OSError as error:
        sys.stderr.write(f"contextpilot: --json: {path}: {error.strerror or error}\n")


@contextmanager
def _proxies(args: argparse.Namespace, session: Session) -> Iterator[dict[str, str]]:
    """Run a proxy for each place that requests may go to; give the proxies' URLs by API."""
    from contextpilot.agents.local_proxy import running_proxy

    settings = _settings(args)
    if settings.engine:
        targets = dict.fromkeys(CLOUDS, settings.engine[0])
    else:
        targets = _checked(lambda: upstreams(os.environ))
    with ExitStack() as stack:
        by_target = {}
        for number, target in enumerate(dict.fromkeys(targets.values())):
            engines = settings.engine or (target,)
            port = args.port + number if args.port else 0
            own = _checked(partial(replace, settings, engine=engines, port=port))
            by_target[target] = stack.enter_context(running_proxy(own, session))
        yield {api: by_target[target] for api, target in targets.items()}


def _settings(args: argparse.Namespace) -> Settings:
    flags: dict[str, Any] = {"host": "127.0.0.1", "port": args.port}
    if args.engine:
        flags["engine"] = (args.engine,)
    return _checked(lambda: load_settings(flags, os.environ))


def _checked(make: Callable[[], _T]) -> _T:
    """Return what is made; what it says of unfit settings is the user's to mend."""
    try:
        return make()
    except ValueError as error:
        raise CommandError(str(error)) from None


def _supervise(agent: Launch) -> int:
    """Run an agent in this terminal; return its exit status. Signals are its to answer."""
    process: subprocess.Popen[bytes] | None = None

    def pass_on(number: int, _: object) -> None:
        if process is not None and not (number in _keys() and _has_terminal()):
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in _passed_on()}
    try:
        process = subprocess.Popen(agent.command, env=agent.environment)
        status = process.wait()
    except OSError as error:
        raise CommandError(_not_started(agent.command[0], error)) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if status >= 0 else _SIGNALLED - status


def _keys() -> set[int]:
    """The signals that a terminal's keys send: to the agent as well, for it is in our group."""
    return {getattr(signal, name) for name in ("SIGINT", "SIGQUIT") if hasattr(signal, name)}


def _passed_on() -> set[int]:
    ends = {getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)}
    # what we were told to ignore (nohup), the agent ignores as well
    return {one for one in _keys() | ends if signal.getsignal(one) is not signal.SIG_IGN}


def _has_terminal() -> bool:
    return any(os.isatty(stream) for stream in range(3))


def _not_started(name: str, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{name} cannot be started: no such program; is it installed and in PATH?"
    return f"{name} cannot be started: {error.strerror or error}"


def _send_logs_to(path: Path | None) -> None:
    """Keep the proxy's log out of the agent's terminal."""
    handler: logging.Handler = logging.NullHandler()
    if path is not None:
        from contextpilot.server.log_lines import LineFormatter, LineHandler

        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        except OSError as error:
            raise CommandError(f"--log: {path}: {error.strerror or error}") from None
        handler = LineHandler(file)
        handler.setFormatter(LineFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in ("contextpilot", "uvicorn"):
        named = logging.getLogger(name)
        named.handlers = [handler]
        named.setLevel(logging.INFO)
        named.propagate = False


def _tell(session: dict[str, Any], status: int, where: str) -> None:
    from contextpilot.agents.summary import summary_lines

    if session["requests"]:
        lines: Sequence[str] = list(summary_lines(session))
    else:
        failed = f"it ended with status {status}; unless it says why above, " if status else ""
        lines = [f"no request of {session['program']} came through the proxy: {failed}{where}"]
    width = terminal_width()
    for number, line in enumerate(lines):
        first = "contextpilot: " if number == 0 else "  "
        sys.stderr.write(wrap(line, width, first, "  ") + "\n")


COMMAND = Command(
    name="run",
    help="run an agent behind its own proxy, and print what was saved",
    examples=(
        "contextpilot run -- claude\n"
        "contextpilot run --engine http://127.0.0.1:8000 -- codex exec 'explain main.py'\n"
        "contextpilot run --json saved.json -- python my_agent.py"
    ),
    add_arguments=_add_arguments,
    run=_run,
)
