"""The subcommands of `contextpilot`, one module each; `contextpilot.cli` parses and dispatches."""
