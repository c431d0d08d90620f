"""Where each agent's plugin stands, and how it is switched on."""

from __future__ import annotations

from pathlib import Path

_JAVASCRIPT = Path(__file__).parent / "javascript"


def hosts() -> list[str]:
    """Return the agents that there is a plugin for."""
    return sorted(_STEPS)


def steps(host: str) -> str:
    """Return what to do so that an agent loads its plugin.

    Raises:
        KeyError: there is none for it.
    """
    javascript = _JAVASCRIPT.as_posix()
    return _STEPS[host].format(folder=javascript, url=(_JAVASCRIPT / "opencode.js").as_uri())


_STEPS = {
    "opencode": """\
1. Put this into opencode.json, the project's or ~/.config/opencode/opencode.json:
     "plugin": ["{url}"]
2. Start `contextpilot serve`, and leave it running.""",
    "openclaw": """\
1. Put this into ~/.openclaw/openclaw.json:
     "plugins": {{
       "load": {{"paths": ["{folder}"]}},
       "entries": {{"contextpilot": {{"enabled": true}}}}
     }}
2. Start `contextpilot serve`, leave it running, and restart OpenClaw's gateway.""",
    "hermes": """\
1. Install contextpilot with the pip of Hermes' own environment.
2. hermes plugins enable contextpilot""",
}
