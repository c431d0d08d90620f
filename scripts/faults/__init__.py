"""What goes wrong around a server, as rows of a table: `python scripts/fault_matrix.py`."""
