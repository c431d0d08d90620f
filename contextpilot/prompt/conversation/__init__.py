"""Whole conversations: their blocks are found, planned and written again, as in earlier turns.

`RewritePreparer` looks through the messages of a request; what it returns is planned by whoever has
an index (`ContextPilot.rewrite` in this process, the proxy at an engine) and then written.
"""
