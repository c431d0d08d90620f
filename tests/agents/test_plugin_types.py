"""The JavaScript plugins against the types that their hosts publish, by TypeScript's compiler."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from missing_agents import is_missing
from real_agents import JAVASCRIPT, search_path

TYPES = {
    "opencode": ("@opencode-ai/plugin", "dist/index.d.ts"),
    "openclaw": ("openclaw", "dist/plugin-sdk/core.d.ts"),
}
"""Package with a host's types, and the file of it that a plugin names."""
NAMES = {"opencode": "@opencode-ai/plugin", "openclaw": "openclaw/plugin-sdk/core"}
NODE = "declare const process: { env: Record<string, string | undefined> };"
"""All that the plugins take of Node.js itself."""

pytestmark = pytest.mark.slow


def _types(host: str) -> Path | None:
    package, file = TYPES[host]
    for folder in map(Path, search_path().split(":")):
        for modules in (folder.parent, folder.parent / "lib" / "node_modules"):
            if (modules / package / file).is_file():
                return modules / package / file
    return None


@pytest.mark.parametrize("host", sorted(TYPES))
def test_a_plugin_has_the_types_of_its_host(host: str, tmp_path: Path) -> None:
    tsc, types = shutil.which("tsc", path=search_path()), _types(host)
    if tsc is None or types is None:
        stack = "agents-node" if host == "opencode" else ""
        is_missing(f"npm install typescript {TYPES[host][0]}", stack)
    (tmp_path / "node.d.ts").write_text(NODE)
    options = {
        **dict.fromkeys(("allowJs", "checkJs", "noEmit", "strict", "skipLibCheck"), True),
        "target": "es2022",
        "lib": ["es2023", "dom"],
        "types": [],
        "module": "nodenext",
        "moduleResolution": "nodenext",
        "paths": {NAMES[host]: [str(types)]},
    }
    files = [str(JAVASCRIPT / f"{host}.js"), "node.d.ts"]
    (tmp_path / "tsconfig.json").write_text(
        json.dumps({"compilerOptions": options, "files": files})
    )
    command = [tsc, "-p", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    ours = [line for line in done.stdout.splitlines() if host in line or "rewriter" in line]
    assert done.returncode == 0, "\n".join(ours) + done.stdout[-2000:]
