"""What the server remembers and counts: numbers, never a word of a prompt."""
