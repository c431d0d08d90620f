"""Measures a running engine: the same requests, planned in several ways, each from a cold cache."""
