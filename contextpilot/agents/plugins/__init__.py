"""ContextPilot in the plugin form of single agents: one small file each, over `rewrite`."""
