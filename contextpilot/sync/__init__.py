"""The events between engines and the index: one schema, and its receiver."""
