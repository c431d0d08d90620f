"""What repeated text and a provider's cache come to, from what an agent or a server remembers."""
