"""Read workflow files and pinned schemas into plain data."""
