"""Request and response shapes of the APIs that prompts are written in."""
