"""What the project knows of each engine: one file a kind, behind the interface in `base`.

`registry` finds those files; whoever needs to know something of an engine asks it for the kind.
"""
