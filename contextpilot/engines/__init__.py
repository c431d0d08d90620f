"""What the project knows of each engine, and of what stands between."""
