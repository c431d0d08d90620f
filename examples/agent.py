"""An agent that reads a file again after each edit: python examples/agent.py

`rewrite` gets the whole history in each turn, as the agent keeps it. Text that a later reading
repeats becomes a reference to the earlier one, and each prompt begins with the previous one, so the
engine's cache keeps hitting.
"""

from __future__ import annotations

import json
from typing import Any

import contextpilot as cp

SOURCE = "\n".join(f"def step_{n}(value):\n    return value * {n} + {n * n}\n" for n in range(40))


def turns() -> list[list[dict[str, Any]]]:
    """Return what each turn adds: the file is read, edited in one line, and read again."""
    added: list[list[dict[str, Any]]] = [[{"role": "user", "content": "Make step_7 add 50."}]]
    for number, text in enumerate((SOURCE, SOURCE.replace("+ 49", "+ 50"))):
        arguments = json.dumps({"path": "steps.py"})
        function = {"name": "read_file", "arguments": arguments}
        call = {"id": f"call_{number}", "type": "function", "function": function}
        added.append(
            [
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": f"call_{number}", "content": text},
            ]
        )
    return added


def main() -> None:
    """Rewrite the history of each turn, and print what is left of it."""
    pilot, history, before = cp.ContextPilot(), list[dict[str, Any]](), list[Any]()
    for added in turns():
        history += added
        sent = pilot.rewrite(history).messages
        # client.chat.completions.create(model="...", messages=sent, tools=[...])
        extends = sent[: len(before)] == before
        given, left = len(json.dumps(history)), len(json.dumps(sent))
        print(f"{given} characters given, {left} sent, extends the prompt before: {extends}")
        before = sent


if __name__ == "__main__":
    main()
