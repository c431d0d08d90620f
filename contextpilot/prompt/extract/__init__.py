"""Blocks found in chat messages, and the same messages with these blocks in another order."""

from contextpilot.prompt.extract.evidence import RULES, Left
from contextpilot.prompt.extract.extraction import Arrangement, Extraction
from contextpilot.prompt.extract.group import LABELS, Group
from contextpilot.prompt.extract.look import MODES, SCOPES, Looked, extract_blocks, look
from contextpilot.prompt.extract.memory import FindingMemory

__all__ = [
    "LABELS",
    "MODES",
    "RULES",
    "SCOPES",
    "Arrangement",
    "Extraction",
    "FindingMemory",
    "Group",
    "Left",
    "Looked",
    "extract_blocks",
    "look",
]
