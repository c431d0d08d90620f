"""ContextPilot in the idiom of other projects: one small file each, imported by nobody else."""
