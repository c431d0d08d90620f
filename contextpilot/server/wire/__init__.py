"""Request and response shapes of the APIs that the proxy speaks."""
