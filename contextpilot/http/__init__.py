"""Blocking HTTP towards an index server: kept connections, one deadline a call, a circuit."""
