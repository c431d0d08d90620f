"""Images as blocks: what identifies one, what it weighs, and how APIs write it."""
