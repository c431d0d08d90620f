"""A chat that remembers, with Mem0: python examples/mem0_chat.py

Shaped like the LoCoMo benchmark: what two friends told each other over months is in Mem0, and a
chat asks about it, with twenty memories per question. All parts are local (a hashing embedder,
Qdrant in a temporary folder, `infer=False`): no account, no model. Prints how much of the prompts a
prefix cache holds, as Mem0 ranks the memories and planned; with `--engine http://127.0.0.1:8000`,
what a running engine counts, and its time to first token.
"""

from __future__ import annotations

import logging
import math
import os
import random
import re
import tempfile
import zlib
from inspect import signature
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("MEM0_TELEMETRY", "False")
os.environ.setdefault("MEM0_DIR", tempfile.mkdtemp())
os.environ.setdefault("OPENAI_API_KEY", "none")  # Mem0 makes its clients, which nobody calls

from measure import Turn, compare, engine_from_command_line
from mem0 import Memory

from contextpilot.integrations.mem0 import memory_blocks

USER, TOP_K, DIMENSIONS = "maya", 20, 512
TOPICS = {
    "dog Biscuit": "park vet leash training puppy school bone walk fur kennel",
    "cello lessons": "teacher bow concert Bach practice strings recital stage duet tuning",
    "garden": "tomatoes compost bees roses fence rain barrel seedlings shed harvest soil",
    "marathon": "training shoes knee Sunday run coach finish line blisters pace river lap",
    "kitchen": "tiles plumber oven shelves paint island electrician sink delay invoice",
    "trip to Lisbon": "tram hostel fado pastry ocean train passport sunset bridge museum",
    "new job": "team office salary manager launch deadline interview desk lunch commute",
    "pottery class": "wheel glaze kiln bowl clay crack studio teacher shelf gift",
}
SENTENCES = (
    "{who} said that the {topic} kept {who} busy on {day}, because of the {a} and the {b}.",
    "{who} told how the {a} went wrong with the {topic} in {month}, and how the {b} helped.",
    "About the {topic} {who} is proud of the {a}, and wants to show the {b} to everybody.",
    "{who} worries about the {topic} since {month}: first the {a}, then the {b}.",
    "A friend gave {who} advice about the {topic} on {day}: forget the {a}, look at the {b}.",
)
QUESTIONS = (
    "What did {who} say about the {topic}?",
    "How did the {a} go with the {topic} of {who}?",
    "Why did {who} worry about the {topic} and the {b}?",
    "When did {who} talk about the {a} and the {topic}?",
    "Who helped {who} with the {topic}?",
)
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "March", "April", "May", "July", "August", "October", "November"]


class HashingEmbedder:
    """Counts words in as many places as a vector has; stands for an embedding model."""

    config = SimpleNamespace(embedding_dims=DIMENSIONS)

    def embed(self, text: str, *_: Any, **__: Any) -> list[float]:
        """Return a vector of length 1."""
        vector = [0.0] * DIMENSIONS
        for word in re.findall(r"\w+", text.lower()):
            vector[zlib.crc32(word.encode()) % DIMENSIONS] += 1.0
        length = math.sqrt(sum(value * value for value in vector)) or 1.0
        return [value / length for value in vector]

    def embed_batch(self, texts: list[str], *_: Any, **__: Any) -> list[list[float]]:
        """Return a vector for each text."""
        return [self.embed(text) for text in texts]


def local_config() -> dict[str, Any]:
    """Return a configuration of Mem0 whose stores are in a temporary folder."""
    folder = tempfile.mkdtemp()
    store = {"collection_name": "chat", "embedding_model_dims": DIMENSIONS, "path": folder}
    return {
        "vector_store": {"provider": "qdrant", "config": store},
        "history_db_path": f"{folder}/history.db",
    }


def local_memory() -> Memory:
    """Return a Mem0 whose parts are all in this process."""
    logging.getLogger("mem0").setLevel(logging.ERROR)  # it misses optional parts aloud
    memory = Memory.from_config(local_config())
    memory.embedding_model = HashingEmbedder()
    return memory


def said(form: str, topic: str, chance: random.Random) -> str:
    """Fill in a sentence or a question about a topic."""
    a, b = chance.sample(TOPICS[topic].split(), 2)
    who, day, month = (chance.choice(names) for names in (("Maya", "Jonas"), DAYS, MONTHS))
    return form.format(topic=topic, a=a, b=b, who=who, day=day, month=month)


def search(memory: Memory, question: str) -> Any:
    """Search as the installed version expects it: since 2.0 the user is among the filters."""
    if "top_k" in signature(memory.search).parameters:
        return memory.search(question, top_k=TOP_K, filters={"user_id": USER}, threshold=0.0)
    return memory.search(question, user_id=USER, limit=TOP_K)


def chat(num_memories: int = 240, num_turns: int = 40) -> list[Turn]:
    """Fill the memory, then ask; each question is remembered, too."""
    memory, chance = local_memory(), random.Random(1)
    for _ in range(num_memories):
        text = said(chance.choice(SENTENCES), chance.choice(list(TOPICS)), chance)
        memory.add(text, user_id=USER, infer=False)
    turns = []
    for _ in range(num_turns):
        question = said(chance.choice(QUESTIONS), chance.choice(list(TOPICS)), chance)
        turns.append(Turn(question, memory_blocks(search(memory, question))))
        memory.add(question, user_id=USER, infer=False)
    memory.vector_store.client.close()
    return turns


if __name__ == "__main__":
    compare(chat(), engine_from_command_line("A chat that remembers, with Mem0."))
