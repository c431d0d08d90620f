"""The proxy: a request's way from its client to an engine and back."""
