"""What runs inside engine processes: standard library only, independent of `contextpilot`."""
